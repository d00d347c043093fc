// Media: talk and listen, captions with what was heard, the media sessions, and where the time goes.

const FALL_STEPS = [["stopped", "noticed that you stopped"], ["committed", "made an item of it"], ["created", "began a response"],
  ["first_delta", "sent its first sound"], ["first_frame", "first frame went out"], ["first_heard", "it sounded"]];
const COLUMNS = [["model", "whether the model hears it, or speaks in it"], ["tag"], ["unit", "who is at the other end"], ["encoding"], ["state"],
  ["sounded#", "how much sound went through"], ["waits#", "sound that is yet to be played"],
  ["lost", "late: what came too late to be played; cut: what was still to be said when it was interrupted"],
  ["late#", "frames that were played later than they were due"], ["do"]];
const seconds = (ms) => (ms > 0 && ms < 100 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function mediaTab({ link, act, alert, sound }) {
  const state = h("strong", { role: "status" });
  const listen = h("button.primary", { type: "button", onclick: () => (sound.now.state === "off" ? begin() : sound.off("you stopped")) });
  const mute = h("button", { type: "button", "aria-pressed": "false", onclick: () => sound.mute(!sound.now.muted) }, "Mute");
  const push = h("input", { type: "checkbox", onchange: () => { sound.talk(!push.checked); hold.hidden = !push.checked; } });
  const hold = h("button", { type: "button", hidden: true, "aria-pressed": "false" }, "Hold to talk");
  const end = h("button.voxnb-danger", { type: "button", onclick: () => { sound.off("the call was ended"); act("media.hang_up").catch(() => {}); } }, "Hang up");
  const mine = meter("Your microphone");
  const theirs = meter("What the model hears");
  const trip = h("span.voxnb-soft");
  const told = h("p.voxnb-soft.voxnb-told");
  const lines = h("div.voxnb-log.voxnb-captions", { role: "log", "aria-live": "polite", "aria-label": "Captions", tabindex: "0" });
  const none = h("p.voxnb-soft", {}, "Nobody has spoken yet. What is said stands here as it is said, with how much of it was heard.");
  const box = h("input", { type: "text", "aria-label": "Say in writing", placeholder: "or write, instead of speaking" });
  const picker = h("input", { type: "file", accept: "audio/*", hidden: true, "aria-label": "Audio file", tabindex: "-1" });
  const play = h("button", { type: "button", onclick: () => picker.click() }, "Play a file …");
  picker.addEventListener("change", async () => {
    const [file] = picker.files;
    picker.value = "";
    if (file) act("media.play", { name: file.name }, [await file.arrayBuffer()]).catch(() => {});
  });
  const form = h("form.voxnb-row.voxnb-write", { onsubmit: (event) => { event.preventDefault(); write(); } }, box, h("button", { type: "submit" }, "Send"), play, picker);
  const body = h("tbody");
  const table = h("div.voxnb-scroll", { tabindex: "0", role: "region", "aria-label": "Media sessions" }, h("table", {}, h("thead", {}, h("tr", {},
    COLUMNS.map(column))), body));
  const quiet = h("p.voxnb-soft", {}, "No media session: nobody speaks to the model, and nobody hears it.");
  const falls = h("div.voxnb-falls");
  const node = h("div.voxnb-media", {},
    h("div.voxnb-row", {}, state, listen, mute, h("label", {}, push, " push to talk"), hold, end, trip),
    h("div.voxnb-row", {}, mine.node, theirs.node), told, none, lines, form,
    h("h2.voxnb-title", {}, "Media sessions"), table, quiet, h("h2.voxnb-title", {}, "Latency: from the end of your speech"), falls);
  const drawn = new Map(); // item id → {node, show}
  let ended = false; // the panel
  let over = false; // the call, or the panel
  let owner = null;
  let taken = false; // the kernel gave us the microphone: from then on it says who has it
  let was = "off";
  let last = { call: { state: "" }, browser: { why: "" }, note: "" };

  function meter(label) {
    const bar = h("span.voxnb-level");
    const made = h("span.voxnb-meter", { role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": "0" }, bar);
    return {
      node: h("span.voxnb-row", {}, h("span.voxnb-soft", {}, label), made),
      set(level) {
        const whole = Math.round(100 * level);
        bar.style.width = `${whole}%`;
        made.setAttribute("aria-valuenow", String(whole));
      },
    };
  }
  async function begin() {
    await sound.on();
    if (sound.now.state !== "on") return;
    act("media.take", { page: sound.page }).then(() => { taken = true; }, () => sound.off("the call could not be had"));
  }
  function write() {
    const text = box.value;
    if (!text.trim()) return;
    box.value = "";
    act("media.say", { text }).catch(() => { if (!box.value) box.value = text; });
  }
  const press = (is) => (event) => {
    if (event.type.startsWith("key") && (event.key !== " " || event.repeat)) { if (event.key === " ") event.preventDefault(); return; }
    event.preventDefault();
    hold.setAttribute("aria-pressed", String(is));
    sound.talk(is);
  };
  for (const kind of ["pointerdown", "keydown"]) hold.addEventListener(kind, press(true));
  for (const kind of ["pointerup", "pointerleave", "pointercancel", "keyup"]) hold.addEventListener(kind, press(false));
  hold.addEventListener("blur", () => { if (push.checked) { hold.setAttribute("aria-pressed", "false"); sound.talk(false); } });

  function head() {
    const is = sound.now.state;
    const elsewhere = owner !== null && owner !== sound.page;
    fill(state, over ? "The call is over" : is === "on" ? (sound.now.muted ? "Muted" : sound.now.talk ? "Listening" : "Waiting for you to talk")
      : is === "asking" ? "Asking for the microphone …" : elsewhere ? "Another page listens" : last.call.connected ? "In the call, not listening" : "No call yet");
    fill(listen, is === "off" ? (elsewhere ? "Take over here" : "Talk") : "Stop listening");
    listen.disabled = over || is === "asking";
    end.disabled = over || !last.call.connected;
    mute.disabled = is !== "on";
    mute.setAttribute("aria-pressed", String(sound.now.muted));
    fill(mute, sound.now.muted ? "Unmute" : "Mute");
    hold.disabled = is !== "on";
    mine.node.hidden = is !== "on";
    mine.set(is === "on" ? sound.now.level : 0);
    fill(trip, sound.now.trip_ms === null ? "" : `page ↔ kernel ${count(Math.round(sound.now.trip_ms))} ms`);
    fill(told, [is === "off" ? sound.now.why || last.browser.why : "", last.note].filter(Boolean).join(" · "));
  }
  const unlisten = sound.listen((now) => {
    if (now.why === NO_ANSWER && was === "on" && now.state === "off") link.check(); // gone, or only busy
    was = now.state;
    if (was !== "on") taken = false;
    head();
  });

  function shut(is) {
    over = is;
    for (const one of [box, ...form.querySelectorAll("button")]) one.disabled = over;
  }

  /** The shape of an answer's sound: what was heard, and, hollow, what was not. */
  function wave(item) {
    const width = item.shape.length || 1;
    const heard = item.who === "model" && item.received_ms ? (item.heard_ms ?? 0) / item.received_ms : 1;
    const SVG = "http://www.w3.org/2000/svg";
    const made = document.createElementNS(SVG, "svg");
    const words = item.heard_ms === null ? `${seconds(item.received_ms)}, not played`
      : heard >= 1 ? `${seconds(item.received_ms)}, heard` : `heard ${seconds(item.heard_ms)} of ${seconds(item.received_ms)}`;
    for (const [name, value] of [["viewBox", `0 0 ${width * 3} 24`], ["preserveAspectRatio", "none"], ["role", "img"], ["aria-label", words]]) made.setAttribute(name, value);
    made.style.width = `${Math.min(100, width * 0.5)}%`;
    // Two paths, whatever the length: a line that is being spoken is drawn again and again.
    const bars = { heard: "", unheard: "" };
    [...item.shape].forEach((letter, n) => {
      const tall = Math.max(1, (22 * parseInt(letter, 36)) / 35);
      bars[(n + 0.5) / width <= heard ? "heard" : "unheard"] += `M${n * 3} ${(12 - tall / 2).toFixed(1)}h2v${tall.toFixed(1)}h-2z`;
    });
    for (const [kind, path] of Object.entries(bars)) {
      if (!path) continue;
      const bar = document.createElementNS(SVG, "path");
      bar.setAttribute("class", kind);
      bar.setAttribute("d", path);
      made.append(bar);
    }
    return h("div.voxnb-wave", {}, item.shape ? made : null, h("span.voxnb-soft", {}, words));
  }
  /** What somebody says. Its text only grows, so that a screen reader says what is new, and says it once. */
  function line({ who }) {
    const mark = h("span.voxnb-mark", { hidden: true });
    const text = h("div.voxnb-plain", { dir: "auto" });
    const sound = h("div", { "aria-live": "off" });
    const name = who === "user" ? "You" : "Model";
    const node = h(`article.voxnb-${who}`, { "aria-label": name }, h("span", {}, h("strong", {}, name), mark), h("div", {}, text, sound));
    return {
      node,
      show(item) {
        fill(mark, item.state === "interrupted" ? "interrupted" : who === "user" && !item.text ? item.state : "");
        mark.hidden = !mark.textContent;
        const had = text.textContent;
        if (had && item.text !== had && item.text.startsWith(had)) text.append(item.text.slice(had.length));
        else fill(text, item.text);
        sound.replaceChildren(...(who === "model" && item.received_ms ? [wave(item)] : []));
      },
    };
  }
  function captions(section) {
    const low = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 60;
    for (const [id, item] of Object.entries(section.put)) {
      if (!drawn.has(id)) drawn.set(id, line(item));
      drawn.get(id).show(item);
    }
    for (const [id, made] of drawn) if (!section.order.includes(id)) { made.node.remove(); drawn.delete(id); }
    section.order.forEach((id, n) => { if (lines.children[n] !== drawn.get(id).node) lines.insertBefore(drawn.get(id).node, lines.children[n] ?? null); });
    none.hidden = drawn.size > 0;
    lines.hidden = drawn.size === 0;
    if (low) lines.scrollTop = lines.scrollHeight;
  }
  function row(one) {
    const lost = [one.dropped_ms ? `${seconds(one.dropped_ms)} late` : null, one.cleared_ms ? `${seconds(one.cleared_ms)} cut` : null].filter(Boolean).join(", ");
    const word = one.state === "muted" ? "Unmute" : "Mute";
    return h("tr", {}, h("td", {}, one.way === "in" ? "hears" : "speaks"), h("td", {}, one.tag), h("td", {}, one.unit), h("td.voxnb-when", {}, one.encoding),
      h("td", {}, one.state), h("td.voxnb-number", {}, seconds(one.duration_ms)), h("td.voxnb-number", {}, seconds(one.depth_ms)), h("td", {}, lost || "nothing"),
      h("td.voxnb-number", {}, count(one.late)),
      h("td", {}, one.way === "in" && !over ? h("button", { type: "button", "data-key": one.key, "aria-label": `${word} ${one.unit} ${one.tag}`, onclick: () => act("media.mute", { key: one.key }).catch(() => {}) }, word) : null));
  }
  function sessions(section) {
    redraw(body, section.streams.map(row));
    table.hidden = !section.streams.length;
    const lost = [section.dropped_ms ? `audio skipped on the way to the model: ${seconds(section.dropped_ms)}` : null,
      section.unheard_ms ? `spoken while nobody listened: ${seconds(section.unheard_ms)}` : null].filter(Boolean).join(" · ");
    quiet.hidden = section.streams.length > 0 && !lost;
    fill(quiet, lost || "No media session: nobody speaks to the model, and nobody hears it.");
  }
  function fall({ at, interrupted }, longest) {
    const zero = at.speech_end ?? Math.min(...Object.values(at));
    let before = zero;
    const parts = [];
    for (const [step, words] of FALL_STEPS) {
      if (at[step] === undefined) continue;
      const made = h("span", { "data-step": step, title: `${words}: after ${count(at[step] - zero)} ms` });
      made.style.width = `${(100 * Math.max(0, at[step] - before)) / longest}%`;
      parts.push(made);
      before = Math.max(before, at[step]);
    }
    const told_ = FALL_STEPS.filter(([step]) => at[step] !== undefined).map(([step, words]) => `${words} after ${count(at[step] - zero)} ms`).join(", ");
    return h("div.voxnb-fall", {}, h("div.voxnb-fallbar", { role: "img", "aria-label": told_ }, parts), h("span.voxnb-soft", {}, `${count(before - zero)} ms${interrupted ? ", interrupted" : ""}`));
  }
  function latencies(list) {
    const longest = Math.max(1, ...list.map(({ at }) => Math.max(...Object.values(at)) - (at.speech_end ?? 0)));
    falls.replaceChildren(...(list.length ? [...list.map((one) => fall(one, longest)),
      h("ul.voxnb-legend", {}, FALL_STEPS.map(([step, words]) => h("li", {}, h("span.voxnb-key", { "data-step": step, "aria-hidden": "true" }), ` ${words}`)))]
      : [h("p.voxnb-soft", {}, "No answer yet.")]));
  }
  return {
    name: "media",
    title: "Media",
    node,
    update(section) {
      const seen = JSON.stringify([section.streams, section.dropped_ms, section.unheard_ms]);
      const fell = JSON.stringify(section.falls);
      if (seen !== last.seen) sessions(section);
      if (fell !== last.fell) latencies(section.falls);
      last = { ...section, seen, fell };
      captions(section);
      theirs.set(section.level / 35);
      if (section.call.closed && !over) sound.off("the call is over");
      shut(ended || section.call.closed);
      const had = owner;
      owner = section.browser.owner;
      if (sound.now.state === "on" && (taken || had === sound.page) && owner !== sound.page) sound.off(owner === null ? section.browser.why : "");
      head();
    },
    end(why) {
      ended = true;
      sound.off(why === "closed" ? "the call is over" : why);
      shut(true);
      head();
    },
    close: unlisten,
  };
}
