// Events: what the client tells its listeners, as it happens. Only the rows that are seen are in the page.

const ROW_PX = 24;
const SPARE_ROWS = 12; // above and below what is seen

function eventsTab({ act, alert, open, tab }) {
  let kept = 5000;
  let rows = []; // [number, at_ms, name, turn, turn id, preview]
  let waiting = []; // that came while paused
  let shown = []; // of rows, what passes the filter
  let missed = 0;
  let paused = false;
  let chosen = null; // number of the event that is laid out
  let follow = true;
  let drawn = false;

  const filter = h("input", { type: "search", "aria-label": "Filter", placeholder: "filter: words, -word leaves out" });
  const pause = h("button", { type: "button", "aria-pressed": "false", onclick: () => toggle() }, "Pause");
  const empty = h("button", { type: "button", onclick: () => clear() }, "Clear");
  const told = h("span.voxnb-soft");
  const above = h("tr", { "aria-hidden": "true" }, h("td", { colspan: "4" }));
  const below = h("tr", { "aria-hidden": "true" }, h("td", { colspan: "4" }));
  const body = h("tbody");
  const table = h("table", { "aria-rowcount": "1" }, h("colgroup", {}, h("col.voxnb-at"), h("col.voxnb-what"), h("col.voxnb-turn"), h("col")),
    h("thead", {}, h("tr", { "aria-rowindex": "1" }, [["time"], ["event"], ["turn#"], ["payload"]].map(column))), body);
  const frame = h("div.voxnb-events", { tabindex: "0", role: "region", "aria-label": "Events" }, table);
  const none = h("p.voxnb-soft", {}, "Nothing happened yet. What the client tells its listeners from now on is shown here.");
  const name = h("strong");
  const at = h("span.voxnb-soft");
  const jump = h("button", { type: "button", hidden: true });
  const payload = h("pre", { tabindex: "0", dir: "auto" });
  const detail = h("div.voxnb-detail", { role: "region", "aria-label": "Payload", tabindex: "-1", hidden: true },
    h("div.voxnb-row", {}, name, at, jump, h("button.voxnb-last", { type: "button", onclick: () => close() }, "Close")), payload);
  const node = h("div", {}, h("div.voxnb-row", {}, filter, pause, empty, told), none, frame, detail);

  const words = () => filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  function passes(row, wanted) {
    const text = `${row[2]} ${row[5]}`.toLowerCase();
    return wanted.every((word) => (word.length > 1 && word[0] === "-" ? !text.includes(word.slice(1)) : text.includes(word)));
  }
  function take(more) {
    const wanted = words();
    let last = rows.length ? rows[rows.length - 1][0] : more.length ? more[0][0] - 1 : 0;
    for (const row of more) {
      if (row[0] <= last) continue;
      missed += row[0] - last - 1;
      last = row[0];
      rows.push(row);
      if (passes(row, wanted)) shown.push(row);
    }
    if (rows.length > kept) {
      rows = rows.slice(-kept);
      let old = 0;
      while (old < shown.length && shown[old][0] < rows[0][0]) old += 1;
      shown = shown.slice(old);
    }
    draw();
  }
  function clear() {
    rows = [];
    shown = [];
    waiting = [];
    missed = 0;
    close();
    draw();
  }
  function toggle() {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    fill(pause, paused ? "Go on" : "Pause");
    if (!paused) take(waiting.splice(0));
    draw();
  }
  const clock = (ms) => {
    const when = new Date(ms);
    const two = (n) => String(n).padStart(2, "0");
    return `${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}.${String(when.getMilliseconds()).padStart(3, "0")}`;
  };
  const short = (long) => long.split(".").at(-1);
  const isBad = (long) => /(?:Error|Failed|Lost)$/.test(long);

  /** At most once per frame. */
  function draw() {
    if (drawn) return;
    drawn = true;
    requestAnimationFrame(() => { drawn = false; paint(); });
  }
  function paint() {
    const parts = [`${count(shown.length)} of ${plural(rows.length, "event")}`];
    if (missed) parts.push(`${count(missed)} more came too fast to be shown`);
    if (paused) parts.push(`paused, ${count(waiting.length)} waiting`);
    if (rows.length >= kept) parts.push(`only the newest ${count(kept)} are kept`);
    fill(told, parts.join(" · "));
    none.hidden = rows.length > 0;
    frame.hidden = rows.length === 0;
    table.setAttribute("aria-rowcount", String(shown.length + 1));
    if (node.offsetParent === null) return; // nobody looks
    if (follow && !paused) frame.scrollTop = shown.length * ROW_PX;
    const first = Math.max(0, Math.min(shown.length, Math.floor(frame.scrollTop / ROW_PX)) - SPARE_ROWS);
    const last = Math.min(shown.length, first + Math.ceil((frame.clientHeight || 300) / ROW_PX) + 2 * SPARE_ROWS);
    above.firstChild.style.height = `${first * ROW_PX}px`;
    below.firstChild.style.height = `${(shown.length - last) * ROW_PX}px`;
    const had = focused(body)?.dataset.event;
    body.replaceChildren(above, ...shown.slice(first, last).map((row, n) => line(row, first + n)), below);
    if (had) body.querySelector(`[data-event="${CSS.escape(had)}"]`)?.focus({ preventScroll: true });
    if (follow && !paused) frame.scrollTop = frame.scrollHeight;
  }
  function line([number, ms, long, turn, , preview], index) {
    const look = h("button.voxnb-plainbutton", {
      type: "button", "data-event": number, title: long, "aria-expanded": String(number === chosen), onclick: () => lay(number),
    }, short(long));
    return h(isBad(long) ? "tr.voxnb-badrow" : "tr", { "aria-rowindex": index + 2, "aria-selected": number === chosen ? "true" : null },
      h("td", {}, clock(ms)), h("td", {}, look), h("td.voxnb-number", {}, turn === null ? "" : String(turn)), h("td", {}, preview));
  }
  function lay(number) {
    const row = rows.find((one) => one[0] === number);
    if (!row) return;
    if (chosen === number) { close(); return; }
    act("events.payload", { event: number }).then((text) => {
      chosen = number;
      detail.hidden = false;
      fill(name, short(row[2]));
      fill(at, `event ${count(number)} · ${clock(row[1])}`);
      name.title = row[2];
      fill(payload, text);
      jump.hidden = row[4] === null || !tab("chat");
      fill(jump, `Go to turn ${row[3] ?? ""}`);
      jump.onclick = () => {
        open("chat");
        if (!tab("chat").go(row[4])) alert(`Turn ${row[3]} is not on the page; "Earlier turns" brings older ones.`);
      };
      draw();
    }, () => {});
  }
  function close() {
    const was = chosen;
    chosen = null;
    detail.hidden = true;
    if (detail.contains(focused(detail))) body.querySelector(`[data-event="${was}"]`)?.focus();
    draw();
  }
  filter.addEventListener("input", () => {
    const wanted = words();
    shown = rows.filter((row) => passes(row, wanted));
    draw();
  });
  frame.addEventListener("scroll", () => {
    follow = frame.scrollHeight - frame.scrollTop - frame.clientHeight < 2 * ROW_PX;
    draw();
  });
  frame.addEventListener("keydown", (event) => {
    const buttons = [...body.querySelectorAll("button")];
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const here = buttons.indexOf(focused(body));
    if (step === undefined || here < 0 || !buttons[here + step]) return;
    event.preventDefault();
    buttons[here + step].focus();
  });
  detail.addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  return {
    name: "events",
    title: "Events",
    node,
    update(section) {
      kept = section.kept;
      if (!paused) { take(section.rows); return; }
      const last = (waiting.at(-1) ?? rows.at(-1) ?? [0])[0];
      waiting.push(...section.rows.filter((row) => row[0] > last));
      if (waiting.length > kept) waiting = waiting.slice(-kept);
      draw();
    },
    shown: draw,
  };
}
