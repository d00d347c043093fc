// A conversation in tabs over one comm.

const TABS = [chatTab, contextTab];

export default {
  render({ model, el }) {
    const name = h("strong");
    const facts = h("span.voxnb-soft");
    const back = h("button", { type: "button", hidden: true, onclick: () => link.ask("open").catch(() => {}) });
    const notice = h("div.voxnb-alert", { role: "alert" });
    const bar = h("div.voxnb-tabs", { role: "tablist", "aria-label": "Views of the conversation" });
    const root = h("section.voxnb", { "aria-label": "Conversation" }, h("div.voxnb-row.voxnb-head", {}, name, facts, back), notice, bar);
    const alert = (text) => fill(notice, text);
    const link = connect(model, {
      patch(message) {
        if (message.head) head(message.head);
        for (const tab of tabs) if (message[tab.name]) tab.update(message[tab.name]);
      },
      lost: (why) => { alert(why); for (const tab of tabs) tab.end?.(why); },
      trouble: alert,
    });
    const open = (which) => choose(tabs.findIndex((tab) => tab.name === which));
    const tabs = TABS.map((make) => make({ link, alert, open, tab: (which) => tabs.find((one) => one.name === which) }));
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
      const step = { ArrowRight: 1, ArrowLeft: -1, Home: -chosen, End: tabs.length - 1 - chosen }[event.key];
      if (step === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      choose((chosen + step + tabs.length) % tabs.length);
      buttons[chosen].focus();
    });
    // The notebook's shortcuts are plain letters: what is typed in a widget is the widget's.
    root.addEventListener("keydown", (event) => event.stopPropagation());
    function head(facts_) {
      fill(name, facts_.name);
      fill(facts, facts_.model + (facts_.own ? ` · a fork of ${facts_.own}` : ""));
      back.hidden = !facts_.own;
      fill(back, facts_.own ? `Back to ${facts_.own}` : "");
      if (facts_.closed) {
        alert("The client was closed: the conversation can be read, and nothing more be asked here.");
        for (const tab of tabs) tab.end?.("closed");
      }
    }
    choose(0);
    el.append(root);
    return () => {
      link.close();
      for (const tab of tabs) tab.close?.();
    };
  },
};
