"use strict";
// The way to the broker: one connection, made when it is needed, and made again when it is lost. What had no answer
// then is sent once more, until its deadline.

const { debuglog } = require("node:util");
const { Connection } = require("./connection");
const { KeybrokerError } = require("./errors");
const { findSockets } = require("./find");
const { open } = require("./open");

const debug = debuglog("keybroker");
const FIRST_PAUSE_MS = 50;
const MOST_PAUSE_MS = 5000;
const LAST_MS = 100; // an attempt needs so much time at least

/** Before the attempt after `failures` ones: none, then 50 ms doubling to 5 s, each half to all of it. */
function backoff(failures) {
	if (failures <= 1) return 0;
	return Math.min(FIRST_PAUSE_MS * 2 ** (failures - 2), MOST_PAUSE_MS) * (0.5 + Math.random() / 2);
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms).unref());

class Link {
	connection = null;
	/** Whether a broker was there once: only then is it worth waiting for one. */
	established = false;
	/** The one that was met, or the first that is tried. */
	socket;
	#names;
	#opening = null;
	#losses = 0; // in a row, of connections that did not last
	/** Nothing more is asked, and no connection is made again. */
	closed = false;
	#notify;
	#lost;

	constructor(given, { notify, lost }) {
		this.#names = findSockets(given);
		this.socket = this.#names[0];
		this.#notify = notify;
		this.#lost = lost;
	}

	async #open() {
		const opened = await open(this.#names);
		const began = performance.now();
		// from now on no other one: another broker would hand out other keys
		this.#names = [opened.name];
		const connection = new Connection(opened, {
			notify: (method, params) => this.#notify(connection, method, params),
			end: (error) => {
				debug("%s", error.message);
				if (this.connection === connection) this.connection = null;
				this.#losses = performance.now() - began < MOST_PAUSE_MS ? this.#losses + 1 : 1;
				this.#lost(backoff(this.#losses));
			},
		});
		this.connection = connection;
		this.established = true;
		this.socket = opened.name;
		if (this.closed) connection.end();
		return connection;
	}

	#connected() {
		if (this.connection) return this.connection;
		this.#opening ??= this.#open().finally(() => (this.#opening = null));
		return this.#opening;
	}

	#mayRepeat({ code, listens }) {
		return code === "lost" || code === "not_leader" || listens || (code === "unreachable" && this.established);
	}

	/** `params` is asked for the params of each attempt, given the milliseconds that are left. */
	async request(method, params, timeoutMs) {
		const deadline = performance.now() + timeoutMs;
		for (let failures = 1; ; failures++) {
			if (this.closed)
				throw new KeybrokerError("lost", "this client is closed.", { advice: "Make a new one." });
			let connection;
			try {
				connection = await this.#connected();
				const left = deadline - performance.now();
				return await connection.request(method, params(left), left);
			} catch (error) {
				// that instance does not serve this connection again
				if (error.code === "not_leader") connection.end();
				const wait = Math.max(backoff(failures), error.retryAfterMs ?? 0);
				const left = deadline - performance.now() - LAST_MS;
				if (!this.#mayRepeat(error) || left <= 0) throw error;
				await pause(Math.min(wait, left));
			}
		}
	}
}

module.exports = { Link, backoff };
