/**
 * A stream of the service over a WebSocket: chunks go out with their numbers, answers come back in order.
 *
 * Owns what makes it survive: a chunk is kept until it is answered, and sent again under its number over the next connection, so
 * that nothing is lost and nothing is counted twice. Knows nothing of what the numbers mean.
 */

const MOST_WAITING = 24; // chunks under way; the service keeps the answers to the last 32
const IDLE = 120; // seconds until the service forgets the stream
const FIRST_DELAY = 0.2; // seconds until a lost connection is tried again, half as long again each time
const LONGEST_DELAY = 3;
const MOST_ATTEMPTS = 5; // to begin a stream that ends before its first answer
const OVER = new Set([4404, 4409, 4410]); // the stream is not there any more, or not where it was: begin another
const LATER = new Set([1006, 1001, 1005, 1011, 1012, 1013, 4429, 4504]); // the connection is lost, or the service busy

export class Stream {
  /**
   * @param service addresses and the key; @param model {name, version, features}
   * @param on {answered(chunk, outputs), changed(what, detail), refused(detail)}; a chunk is {seq, steps, sent, again}
   */
  constructor(service, model, on) {
    this.service = service;
    this.model = model;
    this.on = on;
    this.resent = 0; // chunks
    this.attempts = 0;
    this.pace = 0; // milliseconds between two chunks, where a key's rate is limited
    this.detail = "";
    this.socket = null;
    this.ended = false;
    this.#begin();
    this.#connect();
  }

  #begin() {
    this.id = `page-${[...crypto.getRandomValues(new Uint32Array(3))].map((each) => each.toString(36)).join("")}`;
    this.begun = false; // whether the service knows it
    this.next = 0; // number of the next chunk
    this.ends = new Float64Array(64); // how many steps were sent with each of the last chunks and those before it
    this.waiting = []; // chunks that are not answered, oldest first
  }

  #number(chunk) {
    const seq = this.next++, kept = this.ends.length;
    this.ends[seq % kept] = (seq ? this.ends[(seq - 1) % kept] : 0) + chunk.steps.length / this.model.features.length;
    return { ...chunk, seq };
  }

  /** How many steps the service has counted, and how many were sent with the chunks that it has done. */
  async count() {
    const { seq, steps } = await this.service.stream(this.id);
    return { counted: steps, sent: seq ? this.ends[(seq - 1) % this.ends.length] : 0 };
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  /** Whether another chunk may be sent now. */
  get ready() {
    return this.open && this.waiting.length < MOST_WAITING;
  }

  /** Send steps, a Float32Array; only while `ready`. */
  send(steps) {
    const chunk = this.#number({ steps, sent: performance.now(), again: false });
    this.waiting.push(chunk);
    this.socket.send(steps);
  }

  /** Lose the connection, as a network would; it comes back by itself after `seconds`. */
  cut(seconds) {
    this.socket?.close();
    this.#lost("cut", seconds);
  }

  /** Leave for good. */
  end() {
    this.ended = true;
    clearTimeout(this.timer);
    this.#drop();
    if (this.begun) this.service.forget(this.id);
  }

  #drop() {
    const socket = this.socket;
    this.socket = null; // its events are not heard any more
    socket?.close();
  }

  #connect() {
    const begin = this.begun
      ? `streams/${this.id}/ws?seq=${this.waiting[0]?.seq ?? this.next}`
      : `streams/ws?${new URLSearchParams({ id: this.id, model: this.model.name, version: this.model.version, ttl_seconds: IDLE, seq: 0 })}`;
    const socket = this.service.connect(begin);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    const heard = (handle) => (event) => {
      if (this.socket === socket) handle(event);
    };
    socket.onopen = heard(() => this.#opened());
    socket.onmessage = heard((event) => this.#took(event.data));
    socket.onclose = heard((event) => this.#closed(event));
  }

  #opened() {
    this.connected = true;
    for (const chunk of this.waiting) {
      if (this.begun) {
        chunk.again = true;
        this.resent++;
      }
      this.socket.send(chunk.steps);
    }
    this.on.changed(this.begun ? "resumed" : "begun", { seq: this.waiting[0]?.seq ?? this.next, again: this.waiting.length });
    this.begun = true;
  }

  #took(data) {
    if (typeof data === "string") {
      this.detail = JSON.parse(data).detail; // the reason of the close that follows
      return;
    }
    this.attempts = 0;
    const chunk = this.waiting.shift();
    this.on.answered(chunk, new Float32Array(data));
  }

  async #closed({ code, reason }) {
    const detail = this.detail || reason;
    this.detail = "";
    if (code === 1006 && !this.connected && !(await this.service.allows())) return this.#refuse("The service asks for a key.");
    if (this.ended) return;
    if (code === 4409 && !this.waiting.length && !this.next) return this.#lost("lost"); // begun, though it was not heard
    if (OVER.has(code)) return this.#anew(detail);
    if (!LATER.has(code)) return this.#refuse(detail || `The connection was closed with code ${code}.`);
    if (code === 4429) this.pace = Math.min(1000, Math.max(50, 2 * this.pace));
    this.#lost("lost", this.#delay());
  }

  /** Not the same for all pages: they would come back at once. */
  #delay() {
    return Math.min(LONGEST_DELAY, FIRST_DELAY * 1.5 ** this.attempts++) * (0.75 + Math.random() / 2);
  }

  #lost(what, seconds = 0) {
    this.#drop();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#connect(), 1000 * seconds);
    this.connected = false;
    this.on.changed(what, { seconds, seq: this.waiting[0]?.seq ?? this.next });
  }

  /** The stream is gone: what was not answered is the beginning of another one. */
  #anew(detail) {
    if (this.attempts >= MOST_ATTEMPTS) return this.#refuse(detail);
    const left = this.waiting;
    this.#drop();
    this.#begin();
    this.waiting = left.map((chunk) => this.#number({ ...chunk, again: true }));
    this.on.changed("anew", { detail });
    this.#lost("lost", this.#delay());
  }

  #refuse(detail) {
    this.ended = true;
    this.#drop();
    this.on.refused(detail);
  }
}
