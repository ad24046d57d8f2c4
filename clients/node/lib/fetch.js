"use strict";
// A fetch that sets the key, reports a 401 and sends the request once more if there is another key by then.

/** A body that is consumed as it is sent. */
const isStream = (body) => typeof body === "object" && body !== null && Symbol.asyncIterator in body;

const originOf = (credential) => new URL(credential.baseURL).origin;

/** Waits no longer than the caller does. */
function abortable(promise, signal) {
	if (!signal) return promise;
	return new Promise((resolve, reject) => {
		const abort = () => reject(signal.reason);
		if (signal.aborted) abort();
		signal.addEventListener("abort", abort, { once: true });
		promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
	});
}

function makeFetch({ credential: getCredential, afterRefusal }) {
	return async function fetch(input, init) {
		const request = input instanceof Request ? input : undefined;
		const url = new URL(request?.url ?? input);
		const signal = init?.signal ?? request?.signal;
		const given = new Headers(init?.headers ?? request?.headers);

		// across origins fetch itself takes the header off at a redirect
		const send = (credential) => {
			const headers = new Headers(given);
			if (url.origin === originOf(credential)) headers.set("authorization", `Bearer ${credential.apiKey}`);
			else if (headers.get("authorization") === `Bearer ${credential.apiKey}`) headers.delete("authorization");
			return globalThis.fetch(input, { ...init, headers });
		};

		const credential = await abortable(getCredential(), signal);
		const response = await send(credential);
		const answered = response.redirected ? new URL(response.url).origin : url.origin;
		if (response.status !== 401 || answered !== originOf(credential)) return response;
		const next = await abortable(afterRefusal(credential), signal);
		const another = next && next.apiKey !== credential.apiKey && originOf(next) === url.origin;
		if (!another || isStream(init?.body ?? request?.body)) return response;
		await response.body?.cancel();
		return send(next);
	};
}

module.exports = { makeFetch };
