// A panel of tabs over one comm.

/**
 * Puts a panel into `el`. `makes` are functions `({link, alert, act, open, tab}) => tab`, one per tab; a tab has a `name`, a
 * `title`, a `node`, and may have `update(section)`, `shown()`, `end(why)`, `close()`. The kernel says which tabs there are.
 */
function tabbed({ model, el }, { label, makes }) {
  const name = h("strong", { dir: "auto" });
  const facts = h("span.voxnb-soft");
  const back = h("button", { type: "button", hidden: true, onclick: () => link.ask("open").catch(() => {}) });
  const notice = h("div.voxnb-alert", { role: "alert" });
  const bar = h("div.voxnb-tabs", { role: "tablist", "aria-label": `Views of the ${label.toLowerCase()}` });
  const root = h("section.voxnb", { "aria-label": label }, h("div.voxnb-row.voxnb-head", {}, name, facts, back), notice, bar);
  const alert = (text) => fill(notice, text);
  let closed = ""; // why nothing more can be asked
  const link = connect(model, {
    patch(message) {
      if (message.head) head(message.head);
      for (const tab of tabs) if (message[tab.name]) tab.update(message[tab.name]);
    },
    lost: (why) => { alert(why); for (const tab of tabs) tab.end?.(why); },
    trouble: alert,
    other: (message, buffers) => { for (const tab of tabs) tab.hear?.(message, buffers); },
  });
  const act = (verb, args = {}, buffers = undefined) => link.ask(verb, args, buffers).then(
    (value) => { alert(closed); return value; },
    (error) => { alert(error.message ?? String(error)); throw error; });
  const open = (which) => choose(tabs.findIndex((tab) => tab.name === which));
  const tabs = makes.map((make) => make({ link, alert, act, open, tab: (which) => tabs.find((one) => one.name === which) }));
  const scope = `voxnb-${Math.random().toString(36).slice(2)}`;
  const buttons = tabs.map((tab, n) => h("button", {
    type: "button", role: "tab", id: `${scope}-tab-${n}`, "aria-controls": `${scope}-panel-${n}`, onclick: () => choose(n),
  }, tab.title));
  const panels = tabs.map((tab, n) => h("div.voxnb-panel", {
    role: "tabpanel", id: `${scope}-panel-${n}`, "aria-labelledby": `${scope}-tab-${n}`,
  }, tab.node));
  bar.append(...buttons);
  root.append(...panels);
  let chosen = -1;
  function choose(n) {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === n));
      button.tabIndex = i === n ? 0 : -1;
      panels[i].hidden = i !== n;
    });
    if (n !== chosen) link.ask("show", { tab: tabs[n].name }).catch(() => {});
    chosen = n;
    tabs[n].shown?.();
  }
  bar.addEventListener("keydown", (event) => {
    const there = buttons.map((button, n) => n).filter((n) => !buttons[n].hidden);
    const at = there.indexOf(chosen);
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -at, End: there.length - 1 - at }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    choose(there[(at + step + there.length) % there.length]);
    buttons[chosen].focus();
  });
  // The notebook's shortcuts are plain letters: what is typed in a widget is the widget's.
  root.addEventListener("keydown", (event) => event.stopPropagation());
  function head(now) {
    fill(name, now.name);
    fill(facts, now.facts + (now.own ? ` · a fork of ${now.own}` : ""));
    back.hidden = !now.own;
    fill(back, now.own ? `Back to ${now.own}` : "");
    bar.hidden = now.tabs.length < 2;
    tabs.forEach((tab, n) => { buttons[n].hidden = !now.tabs.includes(tab.name); });
    if (buttons[chosen].hidden) open(now.tabs[0]);
    closed = now.closed;
    if (closed) {
      alert(closed);
      for (const tab of tabs) tab.end?.("closed");
    }
  }
  choose(0);
  el.append(root);
  return () => {
    link.close();
    for (const tab of tabs) tab.close?.();
  };
}
