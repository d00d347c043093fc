// Context: what would be sent next against the window, every turn's place in it, past requests, and the summaries.

const PARTS = [["instructions", "I"], ["tools", "T"], ["pinned", "P"], ["summary", "S"], ["tail", "="], ["current turn", ">"], ["overhead", "o"]];

function contextTab({ act }) {
  let ended = false; // nobody is there who could fold
  const bar = h("div.voxnb-bar", { role: "img" });
  const mark = h("div.voxnb-foldmark", { "aria-hidden": "true" });
  const legend = h("ul.voxnb-legend");
  const words = h("p");
  const note = h("span.voxnb-soft", { role: "status" });
  const fold = h("button", { type: "button", onclick: () => quietly("context.fold") }, "Fold now");
  const unfold = h("button", { type: "button", onclick: () => quietly("context.unfold") }, "Take the newest summary back");
  const draft = h("input", { type: "text", "aria-label": "A message to try", placeholder: "a message to try, not sent" });
  const attempt = h("button", { type: "button", "data-key": "try", onclick: () => look("context.try", { text: draft.value }, "If this were asked next") }, "Dry run");
  const body = h("tbody");
  const heading = h("h2.voxnb-title");
  const earlier = h("button", { type: "button", hidden: true, "data-key": "earlier", onclick: () => quietly("context.earlier") }, "Earlier turns");
  const table = h("div.voxnb-scroll", { tabindex: "0", role: "region", "aria-label": "Turns" }, h("table", {},
    h("thead", {}, h("tr", {}, [["turn"], ["place"], ["tokens#"], ["said"], ["do"]].map(column))), body));
  const detail = h("div.voxnb-detail", { role: "region", "aria-label": "Request", tabindex: "-1", hidden: true });
  const chain = h("div.voxnb-chain");
  const node = h("div.voxnb-context", {}, words, h("div.voxnb-barframe", {}, bar, mark), legend,
    h("div.voxnb-row", {}, fold, unfold, draft, attempt, note), heading, earlier, table, detail, h("h2.voxnb-title", {}, "Summaries"), chain);

  const quietly = (verb, args) => act(verb, args).catch(() => {});
  let opener; // of the request that is laid out
  const look = (verb, args, title) => {
    const key = focused(node)?.dataset.key;
    act(verb, args).then((found) => { opener = key; request(found, title); }, () => {});
  };
  const close = () => {
    detail.hidden = true;
    [...node.querySelectorAll("[data-key]")].find((one) => one.dataset.key === opener)?.focus();
  };
  detail.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });

  function request(found, title) {
    const proof = found.redacted ? "not what was sent: redacted since" : found.exact === true ? "rebuilt exactly, checked by its hash"
      : found.exact === false ? "NOT the request that was sent" : "nothing is sent";
    detail.hidden = false;
    detail.replaceChildren(
      h("div.voxnb-row", {}, h("strong", {}, title), h("span.voxnb-soft", {}, `${plural(found.total, "token")} · ${proof}`),
        h("button.voxnb-last", { type: "button", onclick: close }, "Close")),
      h("ol", {}, found.items.map((item) => h("li", {}, h("details", {},
        h("summary", {}, `${item.kind}${item.turn ? ` ${item.turn}` : ""} · ${item.role} · ${plural(item.tokens, "token")} · ${item.why}`),
        h("pre", { tabindex: "0" }, item.text))))),
      found.drops.length ? h("p", {}, `Not sent: ${found.drops.map((drop) => `turn ${drop.turn} (${drop.why})`).join(", ")}`) : "");
    detail.focus();
  }
  function showBar(now) {
    const whole = now.window ?? Math.max(1, now.total);
    const parts = PARTS.map(([name, letter]) => [name, letter, now.tokens[name] ?? 0]).filter(([, , n]) => n > 0);
    if (now.reserved) parts.push(["reserved", "r", now.reserved]);
    const free = now.window === null ? 0 : Math.max(0, now.window - now.total - (now.reserved ?? 0));
    const part = ([name, letter, n]) => {
      const made = h("span", { "data-part": name.replace(" ", "-"), title: `${name}: ${count(n)}` }, n / whole > 0.025 ? letter : "");
      made.style.width = `${(100 * n) / whole}%`;
      return made;
    };
    const reserve = parts.filter(([name]) => name === "reserved");
    const gap = h("span");
    gap.style.width = `${(100 * free) / whole}%`;
    bar.replaceChildren(...parts.filter(([name]) => name !== "reserved").map(part), gap, ...reserve.map(part));
    legend.replaceChildren(...parts.map(([name, letter, n]) => h("li", {},
      h("span.voxnb-key", { "data-part": name.replace(" ", "-"), "aria-hidden": "true" }, letter), ` ${name} ${count(n)}`)),
      h("li", {}, `free ${count(free)}`), now.fold_at ? h("li", {}, "▲ folds here") : "");
    mark.hidden = !now.fold_mark;
    if (now.fold_mark) mark.style.left = `${(100 * now.fold_mark) / whole}%`;
    const until = now.fold_at ? now.fold_at - now.reducible : null;
    const told = `The next request has ${count(now.total)} tokens before anything new is said` +
      (now.window ? `, of a window of ${count(now.window)}` : "") +
      (until === null ? "." : until > 0 ? `; ${count(until)} more until the oldest turns are folded.` : "; a fold is due.");
    fill(words, told);
    bar.setAttribute("aria-label", `${told} ${parts.map(([name, , n]) => `${name} ${count(n)}`).join(", ")}`);
  }
  function row(turn) {
    const pin = turn.pinned ? "unpin" : "pin";
    return h("tr", {}, h("td", {}, String(turn.seq)), h("td", {}, turn.round && !turn.place.startsWith("dropped") ? `${turn.place} (summary ${turn.round})` : turn.place),
      h("td.voxnb-number", {}, count(turn.tokens)), h("td", { dir: "auto" }, turn.text),
      h("td", {}, h("div.voxnb-row", {},
        h("button", { type: "button", "data-key": `request ${turn.id}`, "aria-label": `Request of turn ${turn.seq}`, onclick: () => look("context.explain", { turn: turn.id }, `The request of turn ${turn.seq}`) }, "Request"),
        h("button", { type: "button", "data-key": `pin ${turn.id}`, "aria-label": `${pin === "pin" ? "Pin" : "Unpin"} turn ${turn.seq}`, onclick: () => quietly(`context.${pin}`, { turn: turn.id }) }, pin === "pin" ? "Pin" : "Unpin"),
        h("button", { type: "button", "data-key": `fold ${turn.id}`, "aria-label": `Fold up to turn ${turn.seq}`, disabled: ended || turn.round !== null, onclick: () => quietly("context.fold", { turn: turn.id }) }, "Fold to here"))));
  }
  function summary(one, n) {
    const doubts = [one.quality === "full" ? null : one.quality, ...one.flags].filter(Boolean).map((word) => word.replaceAll("_", " "));
    const diff = one.diff.map(([kind, text]) => (kind === "same" ? text : h(kind === "new" ? "ins" : "del", {}, text)));
    return h("details", { open: n === 0, "data-key": one.round },
      h("summary", {}, `Summary ${one.round}: stands for turns 1–${one.last}, newly shown ${spans(one.turns)} · ${count(one.before)} → ${count(one.after)} tokens · by ${one.model}` + (doubts.length ? ` · ${doubts.join(", ")}` : "")),
      h("p.voxnb-soft", {}, `Why: ${one.reason}`), h("div.voxnb-plain.voxnb-said", { dir: "auto" }, one.text),
      diff.length ? h("details", { "data-key": `diff ${one.round}` }, h("summary", {}, `What changed since summary ${one.round - 1}`), h("div.voxnb-plain", { dir: "auto" }, diff)) : null,
      h("details", { "data-key": `prompt ${one.round}` }, h("summary", {}, "Prompt"), h("pre", { tabindex: "0" }, one.prompt)));
  }
  return {
    name: "context",
    title: "Context",
    node,
    update(section) {
      showBar(section.bar);
      fill(note, section.note);
      const [shown, all] = [section.turns.length, section.count];
      fill(heading, shown < all ? `Turns: the newest ${count(shown)} of ${count(all)}` : "Turns");
      earlier.hidden = shown >= Math.min(all, section.most);
      redraw(body, section.turns.map(row));
      unfold.disabled = !section.chain.length;
      redraw(chain, section.chain.length ? section.chain.map(summary) : [h("p.voxnb-soft", {}, "Nothing was folded yet.")]);
      if (section.chain.at(-1)?.round > 1) chain.append(h("p.voxnb-soft", {}, "Older ones: conversation.summaries()"));
    },
    end(why) {
      ended = true;
      fold.disabled = true;
      if (why !== "closed") still(node); // of a closed client the store is still there
    },
  };
}
