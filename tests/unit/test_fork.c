/* What a fork makes of a handle, in the child and in the parent, and that threads share one. */
#include "test_fake_leases.h"

#include <pthread.h>

#include "base/fd.h"
#include "clients/c/fork.h"

static void run_child(struct keybroker *k, struct fake *f)
{
	_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;
	int connections = f->shared->connections;

	if (keybroker_get(k, NULL, &l, NULL) != KEYBROKER_OK)
		_exit(1);
	if (strcmp(keybroker_lease_id(l), "2") != 0)
		_exit(2);
	if (f->shared->connections != connections + 1)
		_exit(3);
	_exit(0); /* as a child of fork may end: without closing */
}

static void expect_child(pid_t pid)
{
	int status;

	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_a_child_begins_anew(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);
	int fd = keybroker_fd(k);

	assert_true(fd >= 0);
	assert_int_equal(fake_get(k), 1);
	WAIT_UNTIL(f->shared->watches == 1, );
	pid_t pid = fork();
	if (pid == 0)
		run_child(k, f);
	expect_child(pid);
	/* the parent's connection, lease and loop are as before */
	assert_int_equal(f->shared->connections, 2);
	assert_int_equal(f->shared->releases, 0);
	keybroker_dispatch(k);
	f->shared->generation = 2;
	assert_int_equal(poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000), 1);
	WAIT_UNTIL(fake_get(k) == 2, keybroker_dispatch(k));
	assert_int_equal(f->shared->connections, 2);
	assert_int_equal(keybroker_fd(k), fd);
}

static void test_a_child_may_close(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);

	assert_int_equal(fake_get(k), 1);
	pid_t pid = fork();
	if (pid == 0) {
		keybroker_close(k);
		_exit(0);
	}
	expect_child(pid);
	assert_int_equal(f->shared->releases, 0);
	assert_int_equal(fake_get(k), 1);
	assert_int_equal(f->shared->connections, 1);
}

/* --- threads --- */

enum { FORK_THREADS = 16, FORK_CALLS = 300 };

struct work {
	struct keybroker *k;
	struct fake *f;
	int failed, n;
};

static void *work_once(void *data)
{
	struct work *w = data;

	w->failed += fake_get(w->k) < 1;
	return NULL;
}

/* Whatever there is, at the same time. */
static void *work_hard(void *data)
{
	const struct keybroker_request own = { .bind = KEYBROKER_BIND_TTL };
	struct work *w = data;

	for (int i = 0; i < FORK_CALLS; i++) {
		_cleanup_(keybroker_lease_freep) struct keybroker_lease *l = NULL;

		if (keybroker_get(w->k, NULL, &l, NULL) != KEYBROKER_OK) {
			w->failed++;
			continue;
		}
		if (w->n % 4 == 0 && i % 10 == 0)
			w->failed += keybroker_report(w->k, l, 401, NULL, NULL) != KEYBROKER_OK;
		if (w->n % 4 == 1 && i % 10 == 0) {
			_cleanup_(keybroker_lease_freep) struct keybroker_lease *mine = NULL;

			w->failed += keybroker_acquire(w->k, &own, &mine, NULL) != KEYBROKER_OK;
		}
		if (w->n == 2)
			keybroker_dispatch(w->k);
		if (w->n == 3 && i % 50 == 0)
			w->f->shared->generation++;
		wire_pause(1, INT64_MAX);
	}
	return NULL;
}

static int run_threads(struct keybroker *k, struct fake *f, void *(*run)(void *))
{
	struct work work[FORK_THREADS];
	pthread_t threads[FORK_THREADS];
	int failed = 0;

	for (int i = 0; i < FORK_THREADS; i++) {
		work[i] = (struct work){ .k = k, .f = f, .n = i };
		assert_int_equal(pthread_create(&threads[i], NULL, run, &work[i]), 0);
	}
	for (int i = 0; i < FORK_THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		failed += work[i].failed;
	}
	return failed;
}

static void test_many_threads_are_one_acquire(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);

	assert_int_equal(run_threads(k, f, work_once), 0);
	assert_int_equal(f->shared->acquires, 1);
	assert_int_equal(f->shared->connections, 1);
}

static void test_threads_share_a_handle(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 20000, 10);

	assert_int_equal(run_threads(k, f, work_hard), 0);
	assert_int_equal(f->shared->connections, 1);
}

static void *work_until_killed(void *data)
{
	struct work *w = data;

	while (!__atomic_load_n(&w->n, __ATOMIC_RELAXED))
		w->failed += fake_get(w->k) < 1;
	return NULL;
}

/* No thread is inside the handle at the moment of the fork: the child would wait for it for ever.
 */
static void test_a_fork_beside_busy_threads(void **state)
{
	struct fake *f = *state;
	_cleanup_(keybroker_closep) struct keybroker *k = fake_open(f, 5000, 0);
	struct work w = { .k = k, .f = f };
	pthread_t thread;

	assert_int_equal(fake_get(k), 1);
	assert_int_equal(pthread_create(&thread, NULL, work_until_killed, &w), 0);
	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			(void)alarm(10);
			_exit(fake_get(k) == 1 ? 0 : 1);
		}
		expect_child(pid);
	}
	__atomic_store_n(&w.n, 1, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(w.failed, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAKE_TEST(test_a_child_begins_anew),
		FAKE_TEST(test_a_child_may_close),
		FAKE_TEST(test_many_threads_are_one_acquire),
		FAKE_TEST(test_threads_share_a_handle),
		FAKE_TEST(test_a_fork_beside_busy_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
