"use strict";
// The client: a credential for each profile, kept fresh by what the broker tells and by the clock.

const { randomUUID } = require("node:crypto");
const { inspect } = require("node:util");
const { isMainThread } = require("node:worker_threads");
const { Credential, credentialOf, credentialOfEnvironment } = require("./credential");
const { makeFetch } = require("./fetch");
const { Link, backoff } = require("./link");

const POLL_MS = 60_000; // how often a lease is read again of which the broker tells us nothing
// nobody listens there; anything else is somebody, or trouble of our own
const NOBODY = new Set(["ENOENT", "ENOTDIR", "ECONNREFUSED", "ENOTSOCK"]);
const LEAST_MS = 1000; // between two readings by the clock, should it be wrong
const TIMER_MAX_MS = 2 ** 31 - 1;

/** What is known of one profile. */
class Slot {
	credential = null; // kept when it has expired, until there is another one
	lease; // undefined: there is none to be read again
	flight = null; // the acquire that is under way: who asks meanwhile waits for it too
	reports = new Map(); // key -> the report that is under way
	wanted = 0; // the newest generation that the broker has told of since the last acquire began
	failures = 0; // in a row
	had = false; // a credential, once
	refreshAtMs = Infinity;
	timer;
	listeners = new Set(); // told of each new credential, and of null when there is none any more

	constructor(profile) {
		this.profile = profile;
	}

	tell() {
		for (const listener of this.listeners) listener(this.credential);
	}
}

// The broker sees a process end, but of a worker thread only its connection.
const BIND = isMainThread ? "process" : "connection";

class Client {
	#slots = new Map();
	#link;
	#timeoutMs;
	#ackAfterMs;
	#environment = null; // its variables, once they are used in place of a broker
	#nAwaited = 0;
	#awake;

	constructor({ socket, timeoutMs = 30_000, ackAfterMs = 30_000 } = {}) {
		this.#timeoutMs = timeoutMs;
		this.#ackAfterMs = ackAfterMs;
		this.#link = new Link(socket, {
			// by then what the replies before it said has been taken in
			notify: (connection, method, params) => setImmediate(() => this.#notified(connection, method, params)),
			lost: (wait) => void setTimeout(() => this.#takeUp(), wait).unref(),
		});
	}

	apiKey(profile) {
		const slot = this.#slot(profile);
		return () => {
			const credential = this.#current(slot);
			return credential ? Credential.promiseOf(credential) : this.#held(this.#renew(slot)).then((c) => c.apiKey);
		};
	}

	async baseURL(profile) {
		return (await this.credential(profile)).baseURL;
	}

	async credential(profile) {
		const slot = this.#slot(profile);
		return this.#current(slot) ?? this.#held(this.#renew(slot));
	}

	async refresh(profile) {
		return this.#held(this.#renew(this.#slot(profile)));
	}

	fetch(profile) {
		const slot = this.#slot(profile);
		return makeFetch({
			credential: () => this.credential(profile),
			afterRefusal: (credential) => this.#held(this.#afterRefusal(slot, credential)),
		});
	}

	onCredential(profile, listener) {
		const { listeners } = this.#slot(profile);
		listeners.add(listener);
		return () => void listeners.delete(listener);
	}

	async close() {
		const { connection } = this.#link;
		const leases = [...this.#slots.values()].map((slot) => slot.lease).filter(Boolean);
		this.#link.closed = true;
		for (const slot of this.#slots.values()) this.#forget(slot);
		const released = leases.map((lease) => connection?.request("release", { lease }, this.#timeoutMs));
		await this.#held(Promise.allSettled(released));
		connection?.end();
	}

	[inspect.custom](depth, options, inspect) {
		const credentials = [...this.#slots.values()].map((slot) => [slot.profile, slot.credential]);
		return `Client ${inspect({ socket: this.#link.socket, credentials: Object.fromEntries(credentials) }, options)}`;
	}

	#slot(profile = "service") {
		let slot = this.#slots.get(profile);
		if (!slot) this.#slots.set(profile, (slot = new Slot(profile)));
		return slot;
	}

	/** Nothing else here keeps the process alive: neither the connection nor a timer. */
	async #held(promise) {
		if (this.#nAwaited++ === 0) this.#awake = setInterval(() => {}, TIMER_MAX_MS);
		try {
			return await promise;
		} finally {
			if (--this.#nAwaited === 0) clearInterval(this.#awake);
		}
	}

	/** The credential in memory, if it may still be used. */
	#current(slot) {
		const { credential } = slot;
		if (!credential) return null;
		const now = Date.now();
		if (credential.expiresAtMs !== null && now >= credential.expiresAtMs) return null;
		// the timer is late if the machine slept
		if (now >= slot.refreshAtMs) this.#renewBehind(slot);
		return credential;
	}

	#renew(slot) {
		slot.flight ??= this.#acquire(slot).finally(() => {
			slot.flight = null;
			if (slot.credential && slot.wanted > slot.credential.generation) this.#renewBehind(slot);
		});
		return slot.flight;
	}

	#renewBehind(slot) {
		this.#renew(slot).catch(() => {}); // whoever asks when the key has expired is told why
	}

	async #acquire(slot) {
		slot.wanted = 0;
		try {
			const credential = this.#environment ? this.#ofEnvironment(slot) : await this.#ask(slot);
			this.#adopt(slot, credential);
			return credential;
		} catch (error) {
			this.#failed(slot, error);
			throw error;
		}
	}

	async #ask(slot) {
		const { established } = this.#link;
		const until = performance.now() + this.#timeoutMs;
		const request_id = randomUUID();
		const params = (left) => ({
			...(slot.lease ? { lease: slot.lease } : { profile: slot.profile, bind: BIND, request_id }),
			// the broker's own time-out comes first, since it says why
			timeout_ms: Math.max(Math.floor(left - Math.min(1000, left / 5)), 1),
		});
		for (;;) {
			try {
				const answer = await this.#link.request("acquire", params, until - performance.now());
				return credentialOf(answer, slot.profile, this.#link.socket);
			} catch (error) {
				if (error.code === "unknown_lease" && slot.lease) {
					slot.lease = undefined;
					continue;
				}
				const credential = !established && this.#insteadOfBroker(slot, error);
				if (credential) return credential;
				throw error;
			}
		}
	}

	/** Nothing accepts at the first use: the environment's key, if there is one. A socket closed to us is no such case. */
	#insteadOfBroker(slot, error) {
		if (error.code !== "unreachable" || !error.tried.every(({ why }) => NOBODY.has(why))) return undefined;
		const { OPENAI_API_KEY, OPENAI_BASE_URL, KEYBROKER_REQUIRED } = process.env;
		if (this.#environment) return this.#ofEnvironment(slot);
		this.#environment = { OPENAI_API_KEY, OPENAI_BASE_URL, KEYBROKER_REQUIRED };
		const credential = this.#ofEnvironment(slot);
		if (!credential) {
			this.#environment = null;
			return undefined;
		}
		process.emitWarning(
			`${error.message} OPENAI_API_KEY of the environment is used instead, for ${credential.baseURL}; KEYBROKER_REQUIRED=1 forbids that.`,
			{ type: "KeybrokerWarning", code: "KEYBROKER_FALLBACK" },
		);
		return credential;
	}

	#ofEnvironment(slot) {
		return credentialOfEnvironment(this.#environment, slot.profile);
	}

	#adopt(slot, credential) {
		if (this.#link.closed) return;
		const before = slot.credential;
		slot.credential = credential;
		slot.lease = credential.lease || undefined;
		slot.failures = 0;
		slot.had = true;
		if (before?.lease === credential.lease && before.generation < credential.generation) this.#acknowledgeLater(credential);
		this.#schedule(slot);
		this.#watch();
		if (before?.apiKey !== credential.apiKey) slot.tell();
	}

	/** Later, since a call that took the older key may not have got to LiteLLM yet. */
	#acknowledgeLater({ lease, generation }) {
		const ack = () => {
			if (this.#link.closed) return;
			this.#link.request("ack", () => ({ lease, generation }), this.#timeoutMs).catch(() => {});
		};
		setTimeout(ack, this.#ackAfterMs).unref();
	}

	#failed(slot, { code, retryAfterMs }) {
		if (this.#link.closed) return undefined;
		// the broker's word, for a key in memory too
		if (code === "denied" || code === "unknown_profile") return this.#forget(slot);
		// without a key whoever asks tries again; but who listens for the next one need not ask
		if (!this.#current(slot) && !(slot.had && slot.listeners.size > 0)) return undefined;
		slot.failures++;
		return this.#scheduleAt(slot, Date.now() + Math.max(backoff(slot.failures + 1), retryAfterMs ?? 0));
	}

	#forget(slot) {
		const had = slot.credential;
		clearTimeout(slot.timer);
		slot.credential = null;
		slot.lease = undefined;
		slot.refreshAtMs = Infinity;
		if (had) slot.tell();
	}

	#schedule(slot) {
		let at = slot.credential.refreshAtMs ?? slot.credential.expiresAtMs ?? Infinity;
		if (this.#link.connection?.watching === false) at = Math.min(at, Date.now() + POLL_MS * (0.9 + Math.random() / 5));
		this.#scheduleAt(slot, Math.max(at, Date.now() + LEAST_MS));
	}

	#scheduleAt(slot, at) {
		clearTimeout(slot.timer);
		slot.refreshAtMs = at;
		if (at === Infinity) return;
		const due = () => (Date.now() >= at ? this.#renewBehind(slot) : this.#scheduleAt(slot, at));
		slot.timer = setTimeout(due, Math.min(Math.max(at - Date.now(), 0), TIMER_MAX_MS)).unref();
	}

	/** Once for each connection, behind its first acquire. */
	#watch() {
		const { connection } = this.#link;
		if (!connection || connection.watching !== undefined) return;
		connection.watching = true;
		connection.request("watch", {}, this.#timeoutMs).catch(() => {
			// eight may watch a process: a ninth worker thread asks from time to time instead
			connection.watching = false;
			for (const slot of this.#slots.values()) if (slot.credential) this.#schedule(slot);
		});
	}

	#takeUp() {
		for (const slot of this.#slots.values())
			// one that has failed has its time for the next attempt, which may be the broker's word
			if (slot.failures === 0 && this.#current(slot) && slot.lease) this.#renewBehind(slot);
	}

	#notified(connection, method, { lease, generation }) {
		if (method === "leader_changed") return connection.end();
		const slot = [...this.#slots.values()].find((one) => lease !== undefined && one.lease === lease);
		if (!slot) return undefined;
		if (method === "revoked") return this.#forget(slot);
		if (method === "rotated" && generation > (slot.credential?.generation ?? 0)) {
			slot.wanted = generation;
			this.#renewBehind(slot);
		}
		return undefined;
	}

	/** LiteLLM answered 401 to this credential's key. -> the credential to try next, if there is another. */
	async #afterRefusal(slot, credential) {
		const now = this.#current(slot);
		if (now && now.apiKey !== credential.apiKey) return now;
		if (!credential.lease) return undefined;
		let report = slot.reports.get(credential.apiKey);
		if (!report) {
			report = this.#report(slot, credential).finally(() => slot.reports.delete(credential.apiKey));
			slot.reports.set(credential.apiKey, report);
		}
		// without another key the 401 is the caller's answer, whatever kept the broker from giving one
		return report.catch(() => undefined);
	}

	async #report(slot, { lease }) {
		try {
			const answer = await this.#link.request("report", () => ({ lease, status: 401 }), this.#timeoutMs);
			if (answer.state !== "replaced" && answer.state !== "dead") return this.#current(slot);
		} catch (error) {
			if (error.code !== "unknown_lease") throw error;
			if (slot.lease === lease) this.#forget(slot);
		}
		return this.#renew(slot);
	}
}

module.exports = { Client };
