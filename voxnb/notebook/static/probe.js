// @ts-check
// What a page can do, told to the kernel without a view: loaded by its model alone.

const REPORT_MS = 250; // how long until a report that nobody answered is sent again

/** JupyterLab and Notebook 7 say their name in the page; others are known by their addresses. */
function application() {
  const named = document.getElementById("jupyter-config-data")?.textContent;
  try {
    const { appName, appVersion } = JSON.parse(named ?? "{}");
    if (appName) return [appName, appVersion].filter(Boolean).join(" ");
  } catch {
    // not Jupyter's own page
  }
  if (location.protocol === "vscode-webview:" || "acquireVsCodeApi" in globalThis) return "VS Code";
  if (/googleusercontent\.com$/.test(location.hostname)) return "Colab";
  return document.querySelector("marimo-app, marimo-filename, marimo-island") ? "marimo" : "another page";
}

async function permission() {
  try {
    return (await navigator.permissions.query({ name: "microphone" })).state;
  } catch {
    return "unknown"; // Firefox does not tell
  }
}

async function report() {
  return {
    t: "report",
    application: application(),
    secure: globalThis.isSecureContext === true,
    devices: Boolean(navigator.mediaDevices?.getUserMedia),
    worklet: "AudioWorkletNode" in globalThis,
    allowed: document.featurePolicy?.allowsFeature?.("microphone") ?? null,
    permission: await permission(),
  };
}

export default {
  async initialize({ model }) {
    const bytes = new Uint8Array(8).map(() => Math.floor(Math.random() * 256));
    const facts = await report();
    let asked_ms = 0;
    const say = () => {
      asked_ms = performance.now();
      model.send(facts, undefined, [bytes.buffer.slice(0)]);
    };
    const again = setInterval(say, REPORT_MS);
    model.on("msg:custom", (message, buffers) => {
      if (message.t !== "answer") return;
      clearInterval(again);
      const back = buffers?.[0];
      const there = back ? new Uint8Array(back.buffer ?? back, back.byteOffset ?? 0, back.byteLength) : new Uint8Array();
      const intact = there.length === bytes.length && there.every((byte, n) => byte === bytes[n]);
      model.send({ t: "done", intact, round_trip_ms: performance.now() - asked_ms });
    });
    say();
    return () => clearInterval(again);
  },
};
