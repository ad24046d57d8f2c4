"use strict";
// The one error class, and what to do about each code.

const ADVICE = {
	invalid_request: "Correct the call; repeating it is useless.",
	denied: "Ask the administrator; `keybroker explain PROFILE` shows what the broker sees and why no rule fits.",
	unknown_profile: "See whether the name is right.",
	unknown_lease: "It has ended; acquire anew.",
	limit_exceeded: "Release what is not needed, or try again later.",
	upstream_unavailable: "`keybroker status` shows how LiteLLM is.",
	upstream_refused: "If it is about a team, models, budget or duration, change the profile.",
	audit_unavailable: "The broker's log may say more; look at its disk.",
	not_leader: "The broker is stopping or restarting.",
	internal: "The broker's log says more.",
	unreachable: "Start a broker with `keybrokerd`, or name its socket by KEYBROKER_SOCKET or the option `socket`.",
	untrusted: "If that server is right, set KEYBROKER_SERVER_UID to its uid.",
	timeout: "See whether the broker is running and not stopped.",
	lost: "See whether the broker is running; its log says more.",
	garbage: "See what serves that socket.",
};

// What the broker may say; any other word of it is read as `internal`.
const BROKERS = new Set(Object.keys(ADVICE).slice(0, Object.keys(ADVICE).indexOf("internal") + 1));

class KeybrokerError extends Error {
	constructor(code, message, { socket = null, retryAfterMs = null, tried = [], advice = ADVICE[code] } = {}) {
		super(`${code}: ${message}${advice ? ` ${advice}` : ""}`);
		this.code = code;
		this.advice = advice;
		this.socket = socket;
		this.retryAfterMs = retryAfterMs;
		this.tried = tried;
	}

	/** The error of a reply, which the decoder has made sure is a map. */
	static ofReply({ code, message, retry_after_ms: after }, socket) {
		const known = BROKERS.has(code) ? code : "internal";
		const words = typeof message === "string" && message ? message : "no reason given";
		return new KeybrokerError(known, `${words.replace(/[.]$/, "")} (${socket}).`, {
			socket,
			retryAfterMs: Number.isSafeInteger(after) && after >= 0 ? after : null,
		});
	}
}
// On the prototype, so that it is not one more field of each error that is printed.
Object.defineProperty(KeybrokerError.prototype, "name", { value: "KeybrokerError", configurable: true });

module.exports = { KeybrokerError };
