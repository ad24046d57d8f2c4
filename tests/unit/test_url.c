/* URLs: what is taken, what is refused, and what counts as loopback. */
#include "test.h"

#include <stdlib.h>

#include "core/url.h"

static void test_scheme_host_and_port(_unused_ void **state)
{
	struct url url;

	assert_null(url_parse("HTTPS://LiteLLM.Example.org/v1", &url));
	assert_true(url.https);
	assert_string_equal(url.host, "litellm.example.org");
	assert_int_equal(url.port, 443);
	assert_null(url_parse("http://[::1]:4000", &url));
	assert_false(url.https);
	assert_string_equal(url.host, "::1");
	assert_int_equal(url.port, 4000);
	assert_null(url_parse("http://litellm", &url));
	assert_int_equal(url.port, 80);
}

static void test_loopback_is_the_real_one_only(_unused_ void **state)
{
	static const struct {
		const char *text;
		bool loopback;
	} urls[] = {
		{ "http://127.0.0.1:4000", true },
		{ "http://127.255.0.9", true },
		{ "http://localhost/v1", true },
		{ "http://LOCALHOST", true },
		{ "http://[::1]", true },
		{ "http://litellm:4000", false },
		{ "http://127.evil.example.org", false },
		{ "http://127.0.0.1.evil.example.org", false },
		{ "http://localhost.evil.example.org", false },
		{ "http://128.0.0.1", false },
		{ "http://[::2]", false },
		{ "http://0.0.0.0", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		struct url url;

		assert_null(url_parse(urls[i].text, &url));
		assert_int_equal(url.loopback, urls[i].loopback);
	}
}

static void test_what_is_no_plain_url_is_refused(_unused_ void **state)
{
	static const char *const bad[] = {
		"",
		"litellm:4000",
		"ftp://litellm",
		"file:///etc/passwd",
		"unix:///run/x",
		"http:/litellm",
		"http://",
		"http:///v1",
		"http://:4000",
		"http://user:secret@litellm",
		"http://user@litellm",
		"http://litellm?x=1",
		"http://litellm#x",
		"http://lite llm",
		"http://litellm\n",
		"http://litellm\\@evil",
		"http://litellm:",
		"http://litellm:0",
		"http://litellm:65536",
		"http://litellm:80x",
		"http://litellm:000080",
		"http://[::1",
		"http://[::1]x",
		"http://[zz]",
		"http://[127.0.0.1]",
		"http://l\xc3\xa4ma",
		"javascript:alert(1)",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct url url;

		if (!url_parse(bad[i], &url))
			fail_msg("%s was taken", bad[i]);
	}
}

static void test_trailing_slashes_and_v1_are_taken_off(_unused_ void **state)
{
	static const struct {
		const char *text;
		bool v1;
		const char *trimmed;
	} urls[] = {
		{ "http://h", true, "http://h" },	  { "http://h/", true, "http://h" },
		{ "http://h/v1", true, "http://h" },	  { "http://h//v1//", true, "http://h" },
		{ "http://h/v1/", false, "http://h/v1" }, { "http://h/a/v1", true, "http://h/a" },
		{ "http://h/xv1", true, "http://h/xv1" }, { "http://h/v1/v1", true, "http://h/v1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		char *trimmed = url_trim(urls[i].text, urls[i].v1);

		assert_string_equal(trimmed, urls[i].trimmed);
		free(trimmed);
	}
}

static void test_the_same_place_is_told_however_it_is_written(_unused_ void **state)
{
	static const struct {
		const char *a, *b;
		bool same;
	} urls[] = {
		{ "http://h", "http://h", true },
		{ "http://h", "HTTP://H:80", true },
		{ "https://h:443/a", "https://H/a", true },
		{ "http://h", "https://h", false },
		{ "http://h:80", "https://h:80", false },
		{ "http://h", "http://h:81", false },
		{ "http://h", "http://h.b", false },
		{ "http://h/a", "http://h/b", false },
		{ "http://h/a", "http://h/A", false },
		{ "http://[::1]:1/a", "http://[::1]:1/a", true },
		{ "h", "h", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++)
		if (url_is_same(urls[i].a, urls[i].b) != urls[i].same ||
		    url_is_same(urls[i].b, urls[i].a) != urls[i].same)
			fail_msg("%s and %s", urls[i].a, urls[i].b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scheme_host_and_port),
		cmocka_unit_test(test_loopback_is_the_real_one_only),
		cmocka_unit_test(test_what_is_no_plain_url_is_refused),
		cmocka_unit_test(test_trailing_slashes_and_v1_are_taken_off),
		cmocka_unit_test(test_the_same_place_is_told_however_it_is_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
