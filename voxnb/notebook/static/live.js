// A reply where it was asked for: its text as it comes, and Stop from the first moment.

export default {
  render({ model, el }) {
    const text = growing();
    const stop = h("button", { type: "button", onclick: () => halt() }, "Stop");
    const note = h("span.voxnb-soft");
    const root = h("div.voxnb.voxnb-live", {}, text.node, h("div.voxnb-row", {}, stop, text.status, note));
    el.append(root);
    const link = connect(model, {
      patch: (message) => (message.end === undefined ? text.update(message.live) : whole(message.end)),
      lost: (why) => end(why),
      trouble: (words) => fill(note, words),
    });
    const halt = () => {
      stop.disabled = true;
      fill(note, "stopping …");
      link.say({ t: "stop" });
    };
    const whole = (markup) => {
      text.close();
      root.replaceChildren(h("div.voxnb-text", {}, safe(markup)));
    };
    const end = (why) => {
      stop.disabled = true;
      fill(note, why);
      text.close();
    };
    return () => {
      link.close();
      text.close();
    };
  },
};
