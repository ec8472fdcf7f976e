/**
 * The service that this page came from: its routes, relative to the page, and the key for them where it asks for one.
 *
 * Owns how it is asked. Knows nothing of what is shown.
 */

const KEPT_KEY = "recurve-key"; // in the storage of this tab

export class ServiceError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export class Service {
  constructor() {
    this.key = sessionStorage.getItem(KEPT_KEY) ?? "";
    this.onKeyWanted = () => {};
  }

  /** Use this key from now on. */
  setKey(key) {
    this.key = key;
    if (key) sessionStorage.setItem(KEPT_KEY, key);
    else sessionStorage.removeItem(KEPT_KEY);
  }

  url(path) {
    return new URL(path, document.baseURI);
  }

  get #headers() {
    return this.key ? { Authorization: `Bearer ${this.key}` } : {};
  }

  async #ask(path, options = {}) {
    let answer;
    try {
      answer = await fetch(this.url(path), { ...options, headers: { ...this.#headers, ...options.headers } });
    } catch {
      throw new ServiceError(0, "The service cannot be reached.");
    }
    if (answer.status === 401) this.onKeyWanted();
    return answer;
  }

  async #json(path, options) {
    const answer = await this.#ask(path, options);
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok && !("models" in told)) throw new ServiceError(answer.status, told.detail ?? `${answer.status} ${answer.statusText}`);
    return told;
  }

  health() {
    return this.#json("health");
  }

  models() {
    return this.#json("models");
  }

  example(model) {
    return this.#json(`models/${encodeURIComponent(model.name)}/example?version=${model.version}`);
  }

  /** The first of the predictions, and who made it. */
  predict(body) {
    return this.#json("predict", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  }

  /** Prometheus' text; empty where that is served elsewhere. */
  async metrics() {
    const answer = await this.#ask("metrics");
    return answer.ok ? answer.text() : "";
  }

  /** Whether the key is good, or none is needed; true where that cannot be told now. */
  async allows() {
    try {
      return (await this.#ask("streams?limit=1")).status !== 401;
    } catch {
      return true;
    }
  }

  /** A WebSocket. It cannot have headers, so the key is one of its subprotocols. */
  connect(path) {
    const url = this.url(path);
    url.protocol = url.protocol.replace("http", "ws");
    if (!this.key) return new WebSocket(url);
    const packed = btoa(this.key).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    return new WebSocket(url, ["recurve", `recurve.key.${packed}`]);
  }

  /** Where a stream stands. */
  stream(id) {
    return this.#json(`streams/${id}`);
  }

  /** End a stream, also while the page is left. */
  forget(id) {
    fetch(this.url(`streams/${id}`), { method: "DELETE", headers: this.#headers, keepalive: true }).catch(() => {});
  }
}

/** The samples of one metric in Prometheus' text, added up where the labels match. */
export function metric(text, name, labels = {}) {
  let sum = 0;
  for (const line of text.split("\n")) {
    if (!line.startsWith(name) || (line[name.length] !== "{" && line[name.length] !== " ")) continue;
    if (Object.entries(labels).every(([label, value]) => line.includes(`${label}="${value}"`))) sum += Number(line.split(" ").at(-1));
  }
  return sum;
}
