"use strict";
// The search order for the broker's socket, as proto/PROTOCOL.md has it. Touches no file.

/** A variable, if it is set, not empty, and to be believed: the program is not setuid. */
function environment(name) {
	return process.geteuid() === process.getuid() ? process.env[name] || undefined : undefined;
}

function findSockets(given) {
	// who names a socket means that one: another broker would hand out other keys
	const only = given || environment("KEYBROKER_SOCKET");
	if (only) return [only.replace(/^unix:\/\//, "")];
	const dirs = [environment("XDG_RUNTIME_DIR")];
	if (!dirs[0]) {
		const home = environment("HOME");
		dirs[0] = `/run/user/${process.geteuid()}`;
		dirs[1] = environment("XDG_STATE_HOME") ?? (home && `${home}/.local/state`);
	}
	return [...dirs.filter(Boolean), "/run"].map((dir) => `${dir}/keybroker/keybroker.sock`);
}

module.exports = { environment, findSockets };
