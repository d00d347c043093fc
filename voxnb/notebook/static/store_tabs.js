// The store's tabs: the list of conversations, one to read, two to compare.

function listTab({ act, open }) {
  let rows = [];
  let total = 0;
  let found = null; // what a search gave
  let asked = 0;
  let chosen = [];
  const search = h("input", { type: "search", "aria-label": "Search", placeholder: "search names and what was said" });
  const told = h("span.voxnb-soft", { role: "status" });
  const compare = h("button", { type: "button", disabled: true, onclick: () => both() }, "Compare two");
  const body = h("tbody");
  const table = h("div.voxnb-scroll.voxnb-list", { tabindex: "0", role: "region", "aria-label": "List" }, h("table", {}, h("thead", {}, h("tr", {},
    [["", "choose"], ["conversation"], ["turns#"], ["folds#"], ["last turn"], ["do"]].map(column))), body));
  const hits = h("div");
  const form = h("div.voxnb-detail", { role: "group", tabindex: "-1", hidden: true });
  const node = h("div", {}, h("div.voxnb-row", {}, search, compare, told), form, table, hits);

  function row(one) {
    const box = h("input", { type: "checkbox", "data-key": `choose ${one.id}`, "aria-label": `Choose ${one.name}`, onchange: () => choose(one.id, box.checked) });
    box.checked = chosen.includes(one.id);
    const doing = (word, work) => h("button", { type: "button", "data-key": `${word} ${one.id}`, "aria-label": `${word} ${one.name}`, onclick: work }, word);
    return h("tr", {}, h("td", {}, box), h("th", { scope: "row" }, h("span", { dir: "auto" }, one.title || one.name),
      h("div.voxnb-soft", {}, [one.title ? one.name : null, one.model, one.cost === "unknown" ? null : one.cost,
        one.fork ? `a fork of ${one.fork[0]} after turn ${one.fork[1]}` : null].filter(Boolean).join(" · "))),
      h("td.voxnb-number", {}, count(one.turns)), h("td.voxnb-number", {}, count(one.folds)), h("td.voxnb-when", {}, one.last),
      h("td", {}, h("div.voxnb-row", {}, doing("Open", () => read(one.id)), doing("Fork", () => fork(one)), doing("Export", () => save(one)), doing("Delete", () => remove(one)))));
  }
  function choose(id, is) {
    chosen = is ? [...chosen.filter((one) => one !== id), id].slice(-2) : chosen.filter((one) => one !== id);
    draw();
  }
  const listed = () => found?.rows ?? rows;
  function draw() {
    const shown = listed();
    chosen = chosen.filter((id) => [...rows, ...shown].some((one) => one.id === id));
    compare.disabled = chosen.length !== 2;
    redraw(body, shown.map(row));
    table.hidden = !shown.length;
    const names = found ? `${shown.length ? plural(shown.length, "conversation") : "no conversation"} of that name` : total ? plural(total, "conversation") : "The store is empty: ask something first.";
    fill(told, shown.length < total && !found ? `the last ${count(shown.length)} of ${names}` : names);
    hits.replaceChildren(...(found?.text ? [h("h2.voxnb-title", {}, found.hits.length ? `Said: ${found.hits.length === found.most ? `the newest ${found.most}` : plural(found.hits.length, "message")}` : "Said nowhere"),
      h("ul.voxnb-hits", {}, found.hits.map((hit) => h("li", {},
        h("button", { type: "button", onclick: () => read(hit.id, hit.turn) }, `${hit.name}, turn ${hit.turn}`), h("span", { dir: "auto" }, ` ${hit.role}: `, marked(hit.text)))))] : []));
  }
  // The words that were looked for stand in square brackets.
  const marked = (text) => text.split(/\[([^\]]*)\]/).map((part, n) => (n % 2 ? h("mark", {}, part) : part));
  const read = (id, turn = null) => act("read.open", turn === null ? { talk: id } : { talk: id, upto: turn }).then(() => open("read"), () => {});
  function both() {
    const [left, right] = chosen;
    act("compare.choose", { side: "left", talk: left }).then(() => act("compare.choose", { side: "right", talk: right })).then(() => open("compare"), () => {});
  }
  function look() {
    const text = search.value.trim();
    const mine = (asked += 1);
    if (!text) { found = null; draw(); return; }
    act("list.search", { text }).then((value) => { if (mine === asked) { found = { ...value, text }; draw(); } }, () => {});
  }
  let later = null;
  search.addEventListener("input", () => { clearTimeout(later); later = setTimeout(look, 250); });

  function ask(title, fields, buttons) {
    form.hidden = false;
    form.setAttribute("aria-label", title);
    const close = () => { form.hidden = true; search.focus(); };
    form.replaceChildren(h("p", {}, h("strong", { dir: "auto" }, title)), h("div.voxnb-row", {}, fields, buttons.map(([word, work, kind]) =>
      h(kind ? `button.${kind}` : "button", { type: "button", onclick: () => work().then(close, () => form.focus()) }, word)), h("button", { type: "button", onclick: close }, "Cancel")));
    form.onkeydown = (event) => { if (event.key === "Escape") close(); };
    (form.querySelector("input") ?? form).focus();
    form.scrollIntoView?.({ block: "nearest" });
  }
  const field = (label, value, list) => h("input", { type: "text", "aria-label": label, value, list });
  function fork(one) {
    const name = field("Name of the fork", `${one.name}-fork`);
    ask(`Fork ${one.name}: a new conversation that shares its ${plural(one.turns, "turn")}`, [name], [["Fork", () => act("list.fork", { talk: one.id, name: name.value }), "primary"]]);
  }
  function save(one) {
    const path = field("File name", `${one.name.replace(/[^\p{L}\p{N} ._-]+/gu, "_")}.html`);
    const write = (overwrite) => () => act("list.export", { talk: one.id, path: path.value, overwrite }).then((said) => fill(told, said));
    ask(`Export ${one.name}, beside the notebook: .html .md .jsonl .csv .parquet`, [path], [["Export", write(false), "primary"], ["Export over an old file", write(true)]]);
  }
  function remove(one) {
    const forks = h("input", { type: "checkbox" });
    ask(`Delete ${one.name} with its ${plural(one.turns, "turn")} for good? Nothing brings it back.`,
      [h("label", {}, forks, " and the conversations that share turns with it")],
      [["Delete for good", () => act("list.delete", { talk: one.id, forks: forks.checked }).then((names) => fill(told, `deleted: ${names.join(", ")}`)), "voxnb-danger"]]);
  }
  return {
    name: "list",
    title: "Conversations",
    node,
    update(section) {
      rows = section.rows;
      total = section.count;
      if (found) look();
      draw();
    },
    end: () => still(node),
  };
}

function readTab({ act }) {
  const name = h("strong", { dir: "auto" });
  const told = h("span.voxnb-soft", { role: "status" });
  const earlier = h("button", { type: "button", onclick: () => act("read.open", { talk: now.id, upto: now.first - 1 }).catch(() => {}) }, "Earlier turns");
  const later = h("button", { type: "button", onclick: () => act("read.open", { talk: now.id, upto: now.last + (now.last - now.first + 1) }).catch(() => {}) }, "Later turns");
  const text = h("div.voxnb-text.voxnb-log", { tabindex: "0", role: "region", "aria-label": "Transcript" });
  const node = h("div", {}, h("div.voxnb-row", {}, name, told, earlier, later), text);
  let now = { id: null };
  const update = (section) => {
    const moved = now.id !== section.id || now.last !== section.last;
    now = section;
    const is = now.id !== null;
    text.hidden = !is;
    earlier.hidden = !is || now.first <= 1;
    later.hidden = !is || now.last >= now.count;
    fill(name, is ? now.name : "");
    fill(told, is ? (now.count ? `${turnsNamed(now.first, now.last)} of ${count(now.count)}` : "Nothing was said yet.") : "Open a conversation in the list.");
    text.replaceChildren(safe(is ? now.html : ""));
    if (moved) text.scrollTop = text.scrollHeight;
  };
  const end = (why) => { if (why !== "closed") still(node); }; // what was said in a closed call can be read
  return { name: "read", title: "Read", node, update, end, shown: () => { text.scrollTop = text.scrollHeight; } };
}

function compareTab({ act }) {
  const sides = ["left", "right"].map((side) => {
    const names = h("select", { "aria-label": `Conversation on the ${side}`, onchange: () => names.value && act("compare.choose", { side, talk: names.value }).catch(() => {}) });
    const rounds = h("select", { "aria-label": `Summary on the ${side}`, onchange: () => act("compare.choose", { side, talk: now[side].id, round: Number(rounds.value) }).catch(() => {}) });
    const facts = h("p.voxnb-soft");
    const text = h("div.voxnb-plain.voxnb-said", { dir: "auto", tabindex: "0", role: "region", "aria-label": `Summary on the ${side}` });
    return { side, names, rounds, facts, text, node: h("div", {}, h("div.voxnb-row", {}, names, rounds), facts, text) };
  });
  const changes = h("div.voxnb-plain", { dir: "auto" });
  const diff = h("details", { open: true }, h("summary", {}, "From left to right, word by word"), changes);
  const node = h("div", {}, h("div.voxnb-two", {}, sides.map((one) => one.node)), diff);
  let now = { left: { id: null }, right: { id: null } };
  return {
    name: "compare",
    title: "Compare",
    node,
    update(section) {
      now = section;
      for (const { side, names, rounds, facts, text } of sides) {
        const one = now[side];
        names.replaceChildren(h("option", { value: "" }, "choose a conversation"), ...now.names.map(([id, name]) => h("option", { value: id }, name)));
        names.value = one.id ?? "";
        rounds.hidden = !one.rounds;
        rounds.replaceChildren(...Array.from({ length: one.rounds ?? 0 }, (_, n) => h("option", { value: n + 1 }, `summary ${n + 1}`)));
        if (one.round) rounds.value = one.round;
        fill(facts, one.id === null ? "" : [plural(one.turns, "turn"), one.model || null, one.rounds ? `folded up to turn ${one.folded}` : "never folded",
          one.text === undefined ? null : `this summary stands for turns 1–${one.last}, ${plural(one.tokens, "token")}, by ${one.by}`, ...(one.doubts ?? []).map((word) => word.replaceAll("_", " "))].filter(Boolean).join(" · "));
        text.hidden = one.text === undefined;
        fill(text, one.text ?? "");
      }
      diff.hidden = now.diff === null;
      changes.replaceChildren(...(now.diff ?? []).map(([kind, words]) => (kind === "same" ? words : h(kind === "new" ? "ins" : "del", {}, words))));
    },
    end: () => still(node),
  };
}
