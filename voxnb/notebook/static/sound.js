// The page's microphone and loudspeaker for one widget: sound in binary messages, both ways.

const RATE_HZ = 24000;
const FRAME = 960; // samples of a message: 40 ms
const AHEAD = 75; // frames that may be on their way, 3 s: what a kernel is too slow for is left out, and told late no more
const NO_ANSWER = "the kernel no longer answers";
const SILENT_MS = 3000; // a kernel that says nothing for so long is gone

// Runs in the audio thread. Capture: frames of 16-bit samples and their loudest; zeros while closed. Play: what comes of each lane
// in order, from `hold` samples on, and after a gap from more; how much of a lane was played is told 20 times a second.
const WORKLET = `
class VoxnbCapture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.frame = new Int16Array(${FRAME}); this.at = 0; this.open = true;
    this.port.onmessage = ({ data }) => { this.open = data.open; };
  }
  process([[input]]) {
    if (!input) return true;
    for (const sample of input) {
      this.frame[this.at++] = this.open ? Math.max(-32768, Math.min(32767, Math.round(sample * 32767))) : 0;
      if (this.at === ${FRAME}) {
        this.port.postMessage(this.frame.buffer, [this.frame.buffer]);
        this.frame = new Int16Array(${FRAME}); this.at = 0;
      }
    }
    return true;
  }
}
class VoxnbPlay extends AudioWorkletProcessor {
  constructor() {
    super();
    this.lanes = new Map(); this.since = 0;
    this.port.onmessage = ({ data }) => {
      if (data.kind === "audio") {
        let lane = this.lanes.get(data.lane);
        if (!lane) this.lanes.set(data.lane, lane = this.fresh(data.generation));
        if (data.generation !== lane.generation) return;
        lane.pieces.push(data.samples); lane.held += data.samples.length; lane.quiet = 0;
      } else if (data.kind === "clear") this.lanes.set(data.lane, this.fresh(data.generation));
      else if (data.kind === "end") { const lane = this.lanes.get(data.lane); if (lane) lane.over = true; }
    };
  }
  fresh(generation) { return { generation, pieces: [], at: 0, held: 0, played: 0, told: -1, runs: false, quiet: 0, hold: ${RATE_HZ * 0.12}, over: false }; }
  process(_inputs, [[output]]) {
    const size = output.length;
    this.since += size;
    const tell = this.since >= ${RATE_HZ / 20};
    if (tell) this.since = 0;
    for (const [number, lane] of this.lanes) {
      // A short rest is played, too: nothing more comes of it.
      if (!lane.runs && lane.held > 0) { lane.quiet += size; lane.runs = lane.held >= lane.hold || lane.over || lane.quiet > lane.hold; }
      if (lane.runs) {
        for (let n = 0; n < size && lane.pieces.length; n += 1) {
          output[n] += lane.pieces[0][lane.at] / 32768;
          lane.at += 1; lane.held -= 1; lane.played += 1;
          if (lane.at === lane.pieces[0].length) { lane.pieces.shift(); lane.at = 0; }
        }
        if (!lane.held) { lane.runs = false; lane.quiet = 0; lane.hold = Math.min(${RATE_HZ * 0.25}, lane.hold * 1.5); }
      }
      if (tell && lane.played !== lane.told) {
        lane.told = lane.played;
        this.port.postMessage({ lane: number, generation: lane.generation, samples: lane.played, held: lane.held });
      }
      if (lane.over && !lane.held) this.lanes.delete(number);
    }
    return true;
  }
}
registerProcessor("voxnb-capture", VoxnbCapture);
registerProcessor("voxnb-play", VoxnbPlay);
`;

const OTHERWISE = "Or use voxnb.Microphone() and voxnb.Speaker() where the kernel runs on this machine, play a file, or write below.";

/** Why a microphone could not be had, by the browser's name of the error. */
function whyNoSound(error) {
  const framed = window.self !== window.top ? " This page is inside another one, which may forbid it (allow=\"microphone\")." : "";
  const reasons = {
    NotAllowedError: `The browser does not allow the microphone: look at the lock beside the address.${framed}`,
    NotFoundError: "There is no microphone on this computer.",
    NotReadableError: "The microphone is in use by another program.",
    AbortError: "The page's security rules (script-src without blob:) forbid the sound's own code.",
    InsecureError: "A microphone needs https, or localhost: open this server by an ssh tunnel (ssh -L 8888:localhost:8888 …).",
  };
  return `${reasons[error.name] ?? `${error.name}: ${error.message}`} ${OTHERWISE}`;
}

/** `on()` asks for the microphone and takes the lease; `off(why)` lets go of both. Listeners are told of every change. */
function browserSound(model) {
  const page = `page-${crypto.getRandomValues(new Uint32Array(2)).join("-")}`;
  const told = new Set();
  let parts = null; // {stream, mic, ear, capture, play}
  let seq = 0;
  let sent = []; // and not confirmed
  let watch = null;
  const now = { state: "off", why: "", muted: false, talk: true, level: 0, trip_ms: null, rate_hz: null, heard: 0 };
  const change = (what) => { Object.assign(now, what); for (const listener of told) listener(now); };
  const say = (content, buffers) => {
    try {
      model.send({ ...content, page }, undefined, buffers);
    } catch {
      if (now.state === "on") off("the kernel is gone");
    }
  };
  const open = () => parts?.capture.port.postMessage({ open: !now.muted && now.talk });

  async function on() {
    if (now.state !== "off") return;
    change({ state: "asking", why: "" });
    const made = {};
    try {
      if (!navigator.mediaDevices?.getUserMedia) throw Object.assign(new Error("insecure"), { name: "InsecureError" });
      made.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
      made.mic = new AudioContext({ sampleRate: RATE_HZ });
      made.ear = new AudioContext({ sampleRate: RATE_HZ });
      const code = URL.createObjectURL(new Blob([WORKLET], { type: "text/javascript" }));
      try {
        await Promise.all([made.mic.audioWorklet.addModule(code), made.ear.audioWorklet.addModule(code)]);
      } finally {
        URL.revokeObjectURL(code);
      }
      made.capture = new AudioWorkletNode(made.mic, "voxnb-capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
      made.play = new AudioWorkletNode(made.ear, "voxnb-play", { numberOfInputs: 0, outputChannelCount: [1] });
      made.mic.createMediaStreamSource(made.stream).connect(made.capture);
      made.play.connect(made.ear.destination);
      await Promise.all([made.mic.resume(), made.ear.resume()]);
    } catch (error) {
      release(made);
      change({ state: "off", why: whyNoSound(error) });
      return;
    }
    if (now.state !== "asking") { release(made); return; } // it was let go meanwhile
    parts = made;
    seq = 0;
    sent = [];
    parts.capture.port.onmessage = ({ data }) => frame(data);
    parts.play.port.onmessage = ({ data }) => {
      // What the loudspeaker was given sounds after its latency.
      const late = Math.round((parts?.ear.outputLatency || 0) * RATE_HZ);
      say({ t: "played", lane: data.lane, generation: data.generation, samples: Math.max(0, data.samples - late) });
    };
    for (const track of parts.stream.getTracks()) track.onended = () => off("the microphone was unplugged, or taken away");
    open();
    change({ state: "on", rate_hz: parts.mic.sampleRate, heard: performance.now(), trip_ms: null });
    watch = setInterval(() => {
      if (performance.now() - now.heard > SILENT_MS) off(NO_ANSWER);
    }, 500);
  }
  function frame(buffer) {
    if (now.state !== "on") return;
    let peak = 0;
    for (const sample of new Int16Array(buffer)) peak = Math.max(peak, Math.abs(sample));
    change({ level: Math.sqrt(peak / 32768) });
    // Until the first is confirmed nobody knows from which on they were taken.
    if (sent.length < AHEAD || now.trip_ms === null) {
      say({ t: "mic", seq, at: performance.now(), rate_hz: now.rate_hz }, [buffer]);
      sent.push(seq);
    }
    seq += 1; // what is left out is missed by its number
  }
  function release(made) {
    for (const track of made.stream?.getTracks() ?? []) { track.onended = null; track.stop(); }
    for (const context of [made.mic, made.ear]) if (context && context.state !== "closed") context.close();
  }
  function off(why = "") {
    clearInterval(watch);
    const had = parts;
    parts = null;
    if (had) release(had);
    if (now.state === "off") return;
    change({ state: "off", why, level: 0, trip_ms: null });
    say({ t: "do", id: "leave", verb: "media.leave" });
  }
  model.on("msg:custom", (message, buffers) => {
    if (message.page !== page) return;
    if (message.t === "heard") {
      sent = sent.filter((number) => number > message.seq);
      change({ heard: performance.now(), trip_ms: performance.now() - message.at });
    }
    if (message.t !== "sound" || !parts) return;
    if (message.kind !== "audio") { parts.play.port.postMessage(message); return; }
    const bytes = buffers?.[0];
    if (bytes?.byteLength === undefined) { off(`This front end carries no binary data. ${OTHERWISE}`); return; } // dropped, or made a text of
    const at = bytes.byteOffset ?? 0;
    const samples = new Int16Array((bytes.buffer ?? bytes).slice(at, at + bytes.byteLength));
    parts.play.port.postMessage({ kind: "audio", lane: message.lane, generation: message.generation, samples }, [samples.buffer]);
  });
  window.addEventListener("pagehide", () => off("the page was closed"));
  return {
    page,
    now,
    on,
    off,
    mute(is) { change({ muted: is }); open(); },
    talk(is) { change({ talk: is }); open(); },
    listen(listener) { told.add(listener); listener(now); return () => told.delete(listener); },
  };
}

/** A widget of tabs, each of which gets its `sound`: that belongs to the model, since views come and go; the last one that goes lets it go. */
function sounding({ label, makes }) {
  let sound = null;
  let views = 0;
  return {
    initialize({ model }) {
      sound = browserSound(model);
      return () => sound.off("the widget was closed");
    },
    render(place) {
      views += 1;
      const end = tabbed(place, { label, makes: makes.map((make) => (tools) => make({ ...tools, sound })) });
      return () => {
        end();
        views -= 1;
        if (views === 0) sound.off("the view was closed");
      };
    },
  };
}
