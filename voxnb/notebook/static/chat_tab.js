// Chat: what was said, and saying more.

function chatTab({ link, act }) {
  const turns = new Map(); // id → {node, item}
  const log = h("div.voxnb-log", { role: "log", "aria-label": "Conversation", tabindex: "0" });
  const earlier = h("button", { type: "button", hidden: true, onclick: () => act("chat.earlier").catch(() => {}) }, "Earlier turns");
  const empty = h("p.voxnb-soft", {}, "Nothing was said yet.");
  const files = [];
  const chips = h("ul.voxnb-chips", { "aria-label": "Attachments", hidden: true });
  const box = h("textarea", { rows: "2", "aria-label": "Message", placeholder: "Message. Enter sends, Shift+Enter begins a new line" });
  const picker = h("input", { type: "file", multiple: true, hidden: true, "aria-label": "Files to attach", tabindex: "-1" });
  const stop = h("button", { type: "button", disabled: true, onclick: () => link.say({ t: "stop" }) }, "Stop");
  const attach = h("button", { type: "button", onclick: () => picker.click() }, "Attach …");
  const send = h("button.primary", { type: "submit" }, "Send");
  const form = h("form.voxnb-composer", { onsubmit: submit }, chips, box,
    h("div.voxnb-row", {}, send, stop, attach, picker, h("span.voxnb-soft.voxnb-hint", {}, "or drop and paste files here")));
  const node = h("div", {}, earlier, log, form);
  let live = null; // {view, place}
  let last = null;
  let ended = false; // nothing more can be asked

  async function submit(event) {
    event?.preventDefault();
    if (send.disabled || (!box.value.trim() && !files.length)) return;
    const text = box.value;
    const taken = files.splice(0);
    box.value = "";
    showChips();
    try {
      const buffers = await Promise.all(taken.map((file) => file.arrayBuffer()));
      await act("chat.ask", { text, files: taken.map((file) => file.name) }, buffers);
    } catch {
      if (!box.value) box.value = text; // nothing that was typed is lost
      files.push(...taken);
      showChips();
    }
  }

  function showChips() {
    chips.hidden = !files.length;
    chips.replaceChildren(...files.map((file, n) => h("li", {}, `${file.name || "pasted"} (${count(file.size)} bytes) `,
      h("button", { type: "button", "aria-label": `Remove ${file.name || "pasted"}`, onclick: () => { files.splice(n, 1); showChips(); box.focus(); } }, "×"))));
  }
  function take(list) {
    const found = [...(list ?? [])];
    files.push(...found);
    showChips();
    return found.length > 0;
  }
  picker.addEventListener("change", () => { take(picker.files); picker.value = ""; box.focus(); });
  box.addEventListener("paste", (event) => { if (take(event.clipboardData?.files)) event.preventDefault(); });
  box.addEventListener("keydown", (event) => {
    event.stopPropagation(); // the notebook has commands on plain letters
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
  });
  form.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("voxnb-over"); });
  form.addEventListener("dragleave", () => form.classList.remove("voxnb-over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    form.classList.remove("voxnb-over");
    take(event.dataTransfer?.files);
    box.focus();
  });

  function edit(id, item, place) {
    const draft = h("textarea", { rows: "3", "aria-label": `Turn ${item.seq}, in other words` });
    draft.value = item.said.map((said) => said.text).join("\n");
    const done = () => {
      editor.remove();
      place.hidden = false;
      place.parentNode?.querySelector("[data-key]")?.focus();
    };
    const ask = () => act("chat.edit", { turn: id, text: draft.value }).then(done, () => draft.focus());
    const editor = h("div.voxnb-edit", {}, draft, h("div.voxnb-row", {},
      h("button.primary", { type: "button", onclick: ask }, "Ask in a fork"), h("button", { type: "button", onclick: done }, "Cancel"),
      h("span.voxnb-soft", {}, "what was said stays in the conversation")));
    draft.addEventListener("keydown", (event) => { event.stopPropagation(); if (event.key === "Escape") done(); });
    place.hidden = true;
    place.after(editor);
    draft.focus();
  }

  function article(id, item) {
    const said = h("div.voxnb-said", {}, item.said.map((one) => [
      one.role === "user" ? null : h("span.voxnb-soft", {}, `${one.role}: `), h("div.voxnb-plain", { dir: "auto" }, one.text), safe(one.parts)]));
    const tools = h("span.voxnb-tools", {},
      h("button", { type: "button", "data-key": "edit", disabled: ended, "aria-label": `Edit turn ${item.seq}`, onclick: () => edit(id, item, said) }, "Edit"),
      h("button.voxnb-retry", { type: "button", disabled: ended, "aria-label": `Ask turn ${item.seq} again`, onclick: () => act("chat.retry").catch(() => {}) }, "Retry"));
    const place = h("div.voxnb-answer", { dir: "auto" }, h("div.voxnb-text", {}, safe(item.answer)));
    return h("article", { "aria-label": `Turn ${item.seq}`, tabindex: "-1" },
      h("div.voxnb-row.voxnb-turnhead", {}, h("strong", {}, `Turn ${item.seq}`),
        item.marks.map((mark) => h("span.voxnb-mark", {}, mark)), h("span.voxnb-soft", {}, item.facts), tools),
      said, place, item.error ? h("p.voxnb-bad", {}, item.error) : null);
  }

  function put(section) {
    const low = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    const here = focused(log);
    const inside = log.contains(here);
    for (const [id, item] of Object.entries(section.put)) {
      const before = turns.get(id);
      const made = article(id, item);
      if (before) before.node.replaceWith(made);
      turns.set(id, { node: made, item });
    }
    for (const [id, one] of turns) if (!section.order.includes(id)) { one.node.remove(); turns.delete(id); }
    section.order.forEach((id, n) => {
      const found = turns.get(id)?.node;
      if (found && log.children[n] !== found) log.insertBefore(found, log.children[n] ?? null);
    });
    last = section.order.at(-1) ?? null;
    for (const [id, one] of turns) {
      const retry = one.node.querySelector(".voxnb-retry");
      retry.hidden = id !== last || section.busy;
    }
    empty.remove();
    if (!turns.size) log.append(empty);
    // Whoever was in a turn that was drawn anew, or whose button is there no more, is still among the turns.
    if (inside && (here.hidden || !log.contains(here))) log.focus({ preventScroll: true });
    earlier.hidden = !section.more;
    busy(section.busy);
    return low;
  }
  function busy(is) {
    stop.disabled = !is;
    log.setAttribute("aria-busy", String(is));
    if (!is && live) { live.view.close(); live.node.remove(); live = null; }
  }
  function stream(section) {
    if (live && live.turn !== section.turn && live.turn !== null) { live.view.close(); live.node.remove(); live = null; }
    if (!live) {
      const view = growing();
      live = { view, node: h("div.voxnb-answer", {}, view.node, view.status), turn: section.turn };
    }
    live.turn = section.turn;
    const home = turns.get(section.turn ?? last)?.node ?? log;
    if (live.node.parentNode !== home) home.append(live.node);
    live.view.update(section);
    busy(true);
  }
  return {
    name: "chat",
    title: "Chat",
    node,
    update(section) {
      let low = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
      if (section.order) low = put(section) || low;
      if (section.live) stream(section.live);
      if (low) log.scrollTop = log.scrollHeight;
    },
    shown: () => { log.scrollTop = log.scrollHeight; },
    /** Shows a turn, by its id; whether it is among those on the page. */
    go(id) {
      const found = turns.get(id)?.node;
      found?.scrollIntoView({ block: "nearest" });
      found?.focus();
      return Boolean(found);
    },
    end(why) {
      ended = true;
      earlier.disabled = why !== "closed";
      for (const button of [send, stop, attach, ...log.querySelectorAll(".voxnb-tools button")]) button.disabled = true;
      box.disabled = true;
      live?.view.close();
    },
    close: () => live?.view.close(),
  };
}
