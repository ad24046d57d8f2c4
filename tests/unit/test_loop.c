/* The descriptor for an event loop: it says when there is something to do, and dispatching never
 * waits. */
#include "test_fake_leases.h"

#include "base/fd.h"
#include "clients/c/loop.h"

/* Runs a loop as a program would, until the descriptor has not been readable for a while. */
static int run_loop(struct keybroker *k, int quiet_ms)
{
	struct pollfd p = { .fd = keybroker_fd(k), .events = POLLIN };
	int turns = 0;

	assert_true(p.fd >= 0);
	while (poll(&p, 1, quiet_ms) > 0 && turns++ < 1000)
		keybroker_dispatch(k);
	return turns;
}

static enum keybroker_code try_get(struct keybroker *k, int64_t *ret_generation)
{
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	enum keybroker_code code = keybroker_try_get(k, NULL, &l, NULL);

	if (code == KEYBROKER_OK)
		*ret_generation = keybroker_lease_generation(l);
	return code;
}

static void test_a_key_comes_without_waiting(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 50);
	int fd = keybroker_fd(k);
	int64_t generation = 0;

	f->shared->mute = true; /* so that the answer cannot be there already */
	assert_int_equal(try_get(k, &generation), KEYBROKER_PENDING);
	fake_again(f);
	f->shared->mute = false;
	(void)run_loop(k, 300);
	assert_int_equal(try_get(k, &generation), KEYBROKER_OK);
	assert_int_equal(generation, 1);
	WAIT_UNTIL(f->shared->watches >= 1, );
	f->shared->generation = 2;
	(void)run_loop(k, 300);
	assert_int_equal(f->shared->acked, 2); /* the timer is in the same descriptor */
	assert_int_equal(try_get(k, &generation), KEYBROKER_OK);
	assert_int_equal(generation, 2);
	assert_int_equal(keybroker_fd(k), fd);
}

static void test_a_refusal_is_told(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);
	int64_t generation = 0;
	enum keybroker_code code;

	f->shared->denies = true;
	code = try_get(k, &generation);
	if (code == KEYBROKER_PENDING) {
		(void)run_loop(k, 200);
		code = try_get(k, &generation);
	}
	assert_int_equal(code, KEYBROKER_DENIED);
	assert_int_equal(f->shared->acquires, 1);
}

static void hang_up(int listening)
{
	for (;;) {
		int fd = accept(listening, NULL, NULL);

		if (fd >= 0)
			(void)close(fd);
	}
}

/* What accepts and hangs up again and again is told of, too, in its time. */
static void test_a_server_that_hangs_up_is_told(void **state)
{
	struct fake *f = *state;
	int64_t generation = 0;
	enum keybroker_code code = KEYBROKER_PENDING;

	fake_kill(f);
	(void)unlink(f->place.path);
	place_listen(&f->place);
	pid_t pid = fork();
	if (pid == 0)
		hang_up(f->place.listen_fd);
	assert_true(pid > 0);
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 500, 0);
	struct pollfd p = { .fd = keybroker_fd(k), .events = POLLIN };
	int64_t until = wire_now_ms() + 10000;

	while (code == KEYBROKER_PENDING && wire_now_ms() < until) {
		code = try_get(k, &generation);
		(void)poll(&p, 1, 100);
		keybroker_dispatch(k);
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(code, KEYBROKER_LOST);
}

/* A loop without work sleeps: with a broker, and while it is away. */
static void test_a_loop_does_not_spin(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);
	struct pollfd p = { .fd = keybroker_fd(k), .events = POLLIN };
	int64_t until;
	int turns = 0;

	assert_int_equal(fake_get(k), 1);
	assert_true(run_loop(k, 100) < 10);
	fake_kill(f);
	until = wire_now_ms() + 1000;
	while (wire_now_ms() < until && poll(&p, 1, 100) >= 0 && turns++ < 1000)
		keybroker_dispatch(k);
	assert_true(turns < 40); /* 50 ms doubling, and what wakes nothing */
	assert_int_equal(fake_get(k), 1);
	fake_again(f);
	WAIT_UNTIL(f->shared->watches == 2, (void)run_loop(k, 10));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_a_key_comes_without_waiting),
		FAKE_TEST(test_a_refusal_is_told),
		FAKE_TEST(test_a_server_that_hangs_up_is_told),
		FAKE_TEST(test_a_loop_does_not_spin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
