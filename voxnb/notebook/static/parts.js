// @ts-check
// What every widget of voxnb is built of. It stands before each widget's own code: a notebook loads one module.
// Text from outside reaches the page in two ways only: as text, or through `safe`, which copies a short list of tags.

const FOCUSED = new Set(["a", "button", "input", "select", "summary", "textarea"]);
/** Notebook 7 looks for its shortcuts (plain letters, arrows) before a widget hears of a key: not where this stands. */
const ownKeys = (node) => node.setAttribute("data-lm-suppress-shortcuts", "true");

/** An element: h("button.primary", {type: "button", onclick: send}, "Send"). `on…` are listeners, the rest attributes. */
function h(spec, properties = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  if (FOCUSED.has(tag) || "tabindex" in properties) ownKeys(node);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SAFE_TAGS = new Set(
  ("a blockquote br code del details div em h1 h2 h3 h4 h5 h6 hr img ins li ol p pre s small strong summary table " +
    "tbody td th thead tr ul").split(" "),
);
const SAFE_ADDRESS = /^(?:https?:\/\/|mailto:)/i;
const SAFE_PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}$/;

/** Markup as a fragment that can neither run nor fetch: the kernel cleaned it, and this copies only what is known. */
function safe(markup) {
  const inert = document.createElement("template");
  inert.innerHTML = markup; // inside a template nothing runs and nothing is loaded
  const copied = document.createDocumentFragment();
  const copy = (from, to) => {
    for (const child of from.childNodes) {
      if (child.nodeType === Node.TEXT_NODE) to.append(child.data);
      if (child.nodeType !== Node.ELEMENT_NODE || !SAFE_TAGS.has(child.localName)) continue;
      const node = document.createElement(child.localName);
      const href = child.getAttribute("href");
      const source = child.getAttribute("src");
      if (node.localName === "a" && href !== null && SAFE_ADDRESS.test(href)) {
        Object.assign(node, { href, target: "_blank", rel: "noopener noreferrer nofollow" });
      }
      if (node.localName === "img") {
        if (source === null || !SAFE_PICTURE.test(source)) continue;
        Object.assign(node, { src: source, alt: child.getAttribute("alt") ?? "" });
      }
      if (node.localName === "ol" && child.hasAttribute("start")) node.setAttribute("start", child.getAttribute("start"));
      if (child.dir === "auto") node.dir = "auto";
      if (node.localName === "pre") node.tabIndex = 0; // it scrolls: by keyboard, too
      if (node.tabIndex >= 0) ownKeys(node);
      copy(child, node);
      to.append(node);
    }
  };
  copy(inert.content, copied);
  return copied;
}

/** Replace what a node holds, without touching it where it holds that already. */
function fill(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Offers nothing more in a node; what is laid out can be closed. */
function still(node) {
  for (const one of node.querySelectorAll("button:not(.voxnb-last), input, select")) one.disabled = true;
}

/** What has the focus beside a node: in the page, or in the shadow in which a notebook keeps the widget. */
const focused = (node) => /** @type {any} */ (node.getRootNode()).activeElement ?? null;

/** Gives a node other children, and keeps what a person does there: the focus, and what is unfolded, by `data-key`. */
function redraw(node, children) {
  const here = focused(node);
  const had = node.contains(here) ? here.dataset.key ?? here.parentElement.dataset.key : undefined;
  const open = new Map([...node.querySelectorAll("details[data-key]")].map((one) => [one.dataset.key, one.open]));
  node.replaceChildren(...children);
  for (const one of node.querySelectorAll("[data-key]")) {
    if (open.has(one.dataset.key)) one.open = open.get(one.dataset.key);
    if (had !== undefined && one.dataset.key === had) (one.querySelector("summary") ?? one).focus({ preventScroll: true });
  }
}

const count = (n) => (n === null || n === undefined ? "unknown" : Number(n).toLocaleString("en-US"));
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
/** Numbers in order, neighbours as one span: 1–4, 7. */
const spans = (numbers) => numbers.reduce((found, n) => {
  const last = found.at(-1);
  if (last && last[1] === n - 1) last[1] = n;
  else found.push([n, n]);
  return found;
}, []).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
/** The head of a table's column; of numbers, where # follows its name. */
const column = ([name, title]) => h(name.endsWith("#") ? "th.voxnb-number" : "th", { scope: "col", title }, name.replace("#", "") || h("span.voxnb-only", {}, title));
const turnsNamed = (first, last) => (first === last ? `turn ${first}` : `turns ${first}–${last}`);

const HELLO_MS = 1500; // how long an answer to a hello may take before it is said again
const GONE_MS = 3000; // how long a kernel that may be gone has to answer

/**
 * The page's end of a channel: says hello until it is answered, confirms patches, asks for all of it after a gap, and
 * tells when the kernel is gone. `ask(verb, args, buffers)` returns a promise of the kernel's answer.
 */
function connect(model, { patch, lost = (_why) => {}, trouble = (_text) => {}, other = (_message, _buffers) => {} }) {
  let last = null;
  let asked = 0;
  let heard = 0;
  let doubt = null;
  let gone_ = ""; // why nothing is answered any more
  const waiting = new Map();
  const say = (content, buffers) => {
    try {
      model.send(content, undefined, buffers);
    } catch {
      end(); // the front end has taken the connection away
    }
  };
  const end = () => {
    clearInterval(hello);
    clearTimeout(doubt);
    gone_ = "The kernel that made this is gone. Run the cell again.";
    for (const promise of waiting.values()) promise.reject(gone_);
    waiting.clear();
    lost(gone_);
  };
  const hear = (message, buffers) => {
    heard += 1;
    if (message.t === "patch") {
      if (!message.full && (last === null || message.n !== last + 1)) {
        if (last !== null) say({ t: "hello" });
        last = null;
        return;
      }
      last = message.n;
      patch(message);
      say({ t: "ack", n: message.n });
    } else if (message.t === "answer") {
      const promise = waiting.get(message.id);
      waiting.delete(message.id);
      if (promise) (message.error === undefined ? promise.resolve : promise.reject)(message.error ?? message.value);
    } else if (message.t === "trouble") trouble(message.text);
    else other(message, buffers);
  };
  // What is said before the page has a shell of its own in the kernel may wait there for the cell that runs.
  const hello = setInterval(() => last === null && say({ t: "hello" }), HELLO_MS);
  const gone = () => {
    clearTimeout(doubt);
    const before = heard;
    say({ t: "hello" });
    doubt = setTimeout(() => { if (heard === before) end(); }, GONE_MS);
  };
  model.on("msg:custom", hear);
  model.on("comm_live_update", gone);
  say({ t: "hello" });
  return {
    say,
    check: gone,
    ask(verb, args = {}, buffers = undefined) {
      if (gone_) return Promise.reject(gone_);
      const id = `${Date.now().toString(36)}-${(asked += 1)}`;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        say({ t: "do", id, verb, ...args }, buffers);
      });
    },
    close() {
      clearInterval(hello);
      clearTimeout(doubt);
      model.off("msg:custom", hear);
      model.off("comm_live_update", gone);
    },
  };
}

/** A reply that is being written: finished blocks are added once, only the tail is replaced. */
function growing() {
  const done = h("div");
  const tail = h("div");
  // A screen reader is told what goes on, and not five times a second for how long.
  const doing = h("span", { role: "status" });
  const time = h("span", { "aria-hidden": "true" });
  const status = h("span.voxnb-soft", {}, doing, time);
  const node = h("div.voxnb-text", {}, done, tail);
  let shown = 0;
  let since = performance.now();
  let words = "";
  const tick = () => {
    fill(doing, words);
    fill(time, words && ` ${((performance.now() - since) / 1000).toFixed(1)} s`);
  };
  const clock = setInterval(tick, 200);
  return {
    node,
    status,
    update(live) {
      if (live.from < shown || live.from === 0) {
        done.replaceChildren();
        shown = 0;
      }
      for (const block of live.blocks) done.append(safe(block));
      shown = live.from + live.blocks.length;
      tail.replaceChildren(safe(live.tail));
      words = live.status;
      since = performance.now() - live.elapsed_ms;
      tick();
    },
    close: () => clearInterval(clock),
  };
}
