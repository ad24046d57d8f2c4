"use strict";
// One connection: requests and replies by id, notifications, and its end, which is told once.

const { KeybrokerError } = require("./errors");
const { packRequest, unpack } = require("./message");
const { walk } = require("./walk");

const EMPTY = Buffer.alloc(0);

class Connection {
	watching; // whether notifications come; undefined: nobody has asked for them yet
	ended = false;
	#socket;
	#name;
	#notify;
	#onEnd;
	#pending = new Map();
	#lastId = 0;
	#rest = EMPTY;

	constructor({ socket, name }, { notify, end }) {
		this.#socket = socket;
		this.#name = name;
		this.#notify = notify;
		this.#onEnd = end;
		socket.on("data", (chunk) => this.#read(chunk));
		socket.on("error", (error) => this.#lost(error.code));
		socket.on("close", () => this.#lost("it hung up"));
	}

	/** The result of the reply. One that does not come in time ends the connection: that broker hangs. */
	request(method, params, ms) {
		return new Promise((resolve, reject) => {
			if (this.ended) return reject(this.#error("lost", "the connection has ended."));
			const id = (this.#lastId = (this.#lastId + 1) >>> 0);
			const timer = setTimeout(() => {
				this.#pending.delete(id);
				reject(this.#error("timeout", `no answer to ${method} in time.`));
				this.end();
			}, ms);
			timer.unref();
			this.#pending.set(id, { resolve, reject, timer });
			return this.#socket.write(packRequest(id, method, params));
		});
	}

	end(error = this.#error("lost", "the connection has ended.")) {
		if (this.ended) return;
		this.ended = true;
		this.#socket.destroy();
		this.#rest.fill(0);
		for (const { reject, timer } of this.#pending.values()) {
			clearTimeout(timer);
			reject(error);
		}
		this.#pending.clear();
		this.#onEnd(error);
	}

	#error(code, words) {
		return new KeybrokerError(code, `${this.#name}: ${words}`, { socket: this.#name });
	}

	#lost(why) {
		this.end(this.#error("lost", `the connection was lost (${why}).`));
	}

	#read(chunk) {
		const data = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
		let at = 0;
		while (at < data.length && !this.ended) {
			const rest = data.subarray(at);
			const { walk: found, length } = walk(rest);
			if (found === "incomplete") break;
			if (found === "complete") this.#take(unpack(rest.subarray(0, length)));
			else this.end(this.#error("garbage", `what it sent is not the protocol (${found}).`));
			at += length ?? 0;
		}
		this.#rest.fill(0);
		this.#rest = this.ended ? EMPTY : Buffer.from(data.subarray(at));
		data.fill(0); // may hold a key
		chunk.fill(0);
	}

	#take([type, ...rest]) {
		if (type === 2) return this.#notify(rest[0], rest[1][0] ?? {});
		if (type === 0) return this.end(this.#error("garbage", "it sent a request."));
		const [id, error, result] = rest;
		const waiting = this.#pending.get(id);
		if (!waiting) return undefined;
		this.#pending.delete(id);
		clearTimeout(waiting.timer);
		if (!error === !result) return waiting.reject(this.#error("garbage", "its reply has not either a result or an error."));
		return error ? waiting.reject(KeybrokerError.ofReply(error, this.#name)) : waiting.resolve(result);
	}
}

module.exports = { Connection };
