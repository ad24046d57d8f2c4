/*
 * One chat completion with a key from the broker: chat [MODEL]. When LiteLLM refuses the key, it is
 * reported, and the call made once more if there is another one.
 *   cc chat.c $(pkg-config --cflags --libs keybroker libcurl) -o chat
 */
#include <curl/curl.h>
#include <err.h>
#include <keybroker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Prints the answer; yields its HTTP status. */
static long chat(const struct keybroker_lease *l, const char *model)
{
	CURL *curl = curl_easy_init();
	struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
	char url[1024], body[1024];
	long status = 0;

	(void)snprintf(url, sizeof(url), "%s/chat/completions", keybroker_lease_base_url(l));
	(void)snprintf(
		body, sizeof(body),
		"{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}",
		model);
	curl_easy_setopt(curl, CURLOPT_URL, url);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(curl, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
	curl_easy_setopt(curl, CURLOPT_XOAUTH2_BEARER, keybroker_lease_api_key(l));
	CURLcode r = curl_easy_perform(curl);
	if (r != CURLE_OK)
		errx(1, "%s: %s", url, curl_easy_strerror(r));
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_slist_free_all(headers);
	curl_easy_cleanup(curl);
	(void)putchar('\n');
	return status;
}

int main(int argc, char **argv)
{
	const char *model = argc > 1 ? argv[1] : getenv("KEYBROKER_TEST_MODEL");
	struct keybroker_lease *l, *other;
	struct keybroker_error e;
	struct keybroker *k;

	if (!model)
		errx(64, "usage: chat MODEL");
	if (keybroker_open(&k, NULL, &e) || keybroker_get(k, "service", &l, &e))
		errx(1, "%s\n%s", e.message, e.advice);
	long status = chat(l, model);
	if (status == 401 && keybroker_report(k, l, 401, NULL, NULL) == KEYBROKER_OK &&
	    keybroker_get(k, "service", &other, NULL) == KEYBROKER_OK) {
		if (strcmp(keybroker_lease_key_hash(l), keybroker_lease_key_hash(other)) != 0)
			status = chat(other, model);
		keybroker_lease_free(other);
	}
	keybroker_lease_free(l);
	keybroker_close(k);
	return status == 200 ? 0 : 1;
}
