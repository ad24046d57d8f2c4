/* The environment's key in place of a broker: when it may be used, and when not. */
#include "test_fake_leases.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "clients/c/handle.h"

static int n_logged;

static void note_log(void *data, const char *line)
{
	assert_ptr_equal(data, &n_logged);
	assert_non_null(strstr(line, "OPENAI_API_KEY"));
	assert_null(strstr(line, "sk-"));
	n_logged++;
}

static struct keybroker *open_logging(const struct fake *f)
{
	const struct keybroker_options o = {
		.socket = f->place.path, .timeout_ms = 500, .log = note_log, .log_data = &n_logged
	};
	struct keybroker *k = NULL;

	n_logged = 0;
	assert_int_equal(keybroker_open(&k, &o, NULL), KEYBROKER_OK);
	return k;
}

static int setup_environment(void **state)
{
	(void)setenv("OPENAI_API_KEY", "sk-of-the-environment", 1);
	(void)unsetenv("OPENAI_BASE_URL");
	(void)unsetenv("KEYBROKER_REQUIRED");
	return fake_setup(state);
}

static void test_without_a_broker_the_environments_key_is_used(void **state)
{
	struct fake *f = *state;
	struct keybroker *k = open_logging(f);

	fake_kill(f);
	(void)unlink(f->place.path);
	for (int i = 0; i < 3; i++) {
		struct keybroker_lease *l = NULL;

		assert_int_equal(keybroker_get(k, i ? "other" : NULL, &l, NULL), KEYBROKER_OK);
		assert_string_equal(keybroker_lease_api_key(l), "sk-of-the-environment");
		assert_string_equal(keybroker_lease_base_url(l), "https://api.openai.com/v1");
		assert_string_equal(keybroker_lease_mode(l), "environment");
		assert_string_equal(keybroker_lease_id(l), "");
		assert_string_equal(keybroker_lease_key_hash(l), "e7f5cbc4");
		assert_int_equal(keybroker_report(k, l, 401, NULL, NULL), KEYBROKER_OK);
		keybroker_lease_free(l);
	}
	assert_int_equal(n_logged, 1);
	place_listen(&f->place);
	fake_start(f);
	assert_int_equal(fake_get(k), 0); /* for good: a key must not get to the other base URL */
	assert_int_equal(f->shared->connections, 0);
	keybroker_close(k);
}

static void test_a_dead_socket_is_no_broker(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = open_logging(f);

	fake_kill(f);
	assert_int_equal(fake_get(k), 0);
}

static void test_what_forbids_it(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = open_logging(f);
	struct keybroker *later;

	/* a broker that was there once */
	assert_int_equal(fake_get(k), 1);
	fake_kill(f);
	assert_int_equal(fake_get(k), 1);
	/* that is required */
	(void)setenv("KEYBROKER_REQUIRED", "1", 1);
	later = open_logging(f);
	assert_int_equal(fake_get(later), -KEYBROKER_UNREACHABLE);
	keybroker_close(later);
	(void)unsetenv("KEYBROKER_REQUIRED");
	/* that denies */
	fake_again(f);
	f->shared->denies = true;
	later = open_logging(f);
	assert_int_equal(fake_get(later), -KEYBROKER_DENIED);
	keybroker_close(later);
	/* that is not to be trusted */
	assert_int_equal(chmod(f->place.dir, 0777), 0);
	later = open_logging(f);
	assert_int_equal(fake_get(later), -KEYBROKER_UNTRUSTED);
	keybroker_close(later);
	assert_int_equal(chmod(f->place.dir, 0755), 0);
	/* that doesn't answer */
	f->shared->mute = true;
	later = open_logging(f);
	assert_int_equal(fake_get(later), -KEYBROKER_TIMEOUT);
	keybroker_close(later);
	assert_int_equal(n_logged, 0);
}

static void test_an_error_says_what_to_do(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = open_logging(f);
	struct keybroker_lease *l = NULL;
	struct keybroker_error e;

	fake_kill(f);
	(void)unsetenv("OPENAI_API_KEY");
	assert_int_equal(keybroker_get(k, NULL, &l, &e), KEYBROKER_UNREACHABLE);
	assert_non_null(strstr(e.message, f->place.path));
	assert_string_equal(e.socket, f->place.path);
	assert_string_not_equal(e.advice, "");
	assert_null(l);
}

#define GET_TEST(t) cmocka_unit_test_setup_teardown(t, setup_environment, fake_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		GET_TEST(test_without_a_broker_the_environments_key_is_used),
		GET_TEST(test_a_dead_socket_is_no_broker),
		GET_TEST(test_what_forbids_it),
		GET_TEST(test_an_error_says_what_to_do),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
