// One core for both module systems, so that a process that uses both has one client.
import keybroker from "./index.js";

export const {
	apiKey,
	baseURL,
	fetch,
	credential,
	refresh,
	onCredential,
	close,
	createProvisioner,
	Client,
	KeybrokerError,
} = keybroker;
