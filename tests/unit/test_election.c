/* What a standby concludes: tables of looks. */
#include "test.h"

#include <stdio.h>

#include "core/election.h"

struct look {
	int64_t now_ms;
	const char *holder;
	uint64_t beat;
	bool stopped;
};

static enum election_evidence look_at(struct election_watch *w, const struct look *look)
{
	struct election_view view = { .beat = look->beat,
				      .stopped = look->stopped,
				      .now_ms = look->now_ms };

	(void)snprintf(view.holder, sizeof(view.holder), "%s", look->holder);
	return election_look(w, &timing_default, &view);
}

/* Looks every 100 ms from `from` until `to`; the first time at which there was evidence, -1 if
 * none. */
static int64_t first_evidence(struct election_watch *w, int64_t from, int64_t to, uint64_t beat,
			      enum election_evidence *ret)
{
	for (int64_t now = from; now <= to; now += 100) {
		struct look look = { .now_ms = now, .holder = "a", .beat = beat };

		*ret = look_at(w, &look);
		if (*ret != ELECTION_ALIVE)
			return now;
	}
	return -1;
}

static void test_still_beat_counts_after_its_time(void **state)
{
	struct election_watch w;
	enum election_evidence evidence;

	(void)state;
	election_start(&w, &timing_default, 5000);
	/* the newcomer's second, then the 1.5 s */
	assert_int_equal(first_evidence(&w, 5000, 20000, 7, &evidence), 7500);
	assert_int_equal(evidence, ELECTION_STILL);
}

static void test_each_beat_begins_the_count_anew(void **state)
{
	struct election_watch w;
	enum election_evidence evidence;

	(void)state;
	election_start(&w, &timing_default, 0);
	for (uint64_t beat = 1; beat < 50; beat++)
		assert_int_equal(first_evidence(&w, (int64_t)beat * 400, (int64_t)beat * 400 + 300,
						beat, &evidence),
				 -1);
	assert_int_equal(first_evidence(&w, 20000, 30000, 49, &evidence), 21100);
}

static void test_another_holder_begins_the_count_anew(void **state)
{
	struct election_watch w;
	enum election_evidence evidence;
	struct look other = { .now_ms = 2400, .holder = "b", .beat = 7 };

	(void)state;
	election_start(&w, &timing_default, 0);
	assert_int_equal(first_evidence(&w, 0, 2300, 7, &evidence), -1);
	assert_int_equal(look_at(&w, &other), ELECTION_ALIVE);
	assert_int_equal(first_evidence(&w, 2500, 9000, 7, &evidence), 4000);
}

static void test_own_pause_counts_for_nothing(void **state)
{
	struct election_watch w;
	enum election_evidence evidence;

	(void)state;
	election_start(&w, &timing_default, 0);
	assert_int_equal(first_evidence(&w, 0, 2300, 7, &evidence), -1);
	/* we were stopped for a minute: so may the whole machine have been */
	assert_int_equal(first_evidence(&w, 62300, 70000, 7, &evidence), 63800);
}

static void test_few_looks_are_not_enough(void **state)
{
	struct election_watch w;

	(void)state;
	election_start(&w, &timing_default, 0);
	for (int i = 0; i < 9; i++) {
		struct look look = { .now_ms = 1000 + i * 300, .holder = "a", .beat = 7 };

		assert_int_equal(look_at(&w, &look), ELECTION_ALIVE);
	}
}

static void test_stopped_process_counts_after_its_time(void **state)
{
	static const struct look looks[] = {
		{ 100, "a", 1, false },
		{ 200, "a", 2, true },
		{ 300, "a", 2, true },
		{ 350, "a", 2, true },
	};
	struct election_watch w;

	(void)state;
	election_start(&w, &timing_default, 0);
	for (size_t i = 0; i + 1 < ARRAY_SIZE(looks); i++)
		assert_int_equal(look_at(&w, &looks[i]), ELECTION_ALIVE);
	assert_int_equal(look_at(&w, &looks[3]), ELECTION_STOPPED);
}

static void test_stop_that_ended_or_was_anothers_begins_anew(void **state)
{
	static const struct look looks[] = {
		{ 100, "a", 1, true },	{ 200, "a", 1, false }, { 300, "a", 1, true },
		{ 400, "b", 1, true },	{ 500, "b", 1, true },	{ 900, "b", 1, true },
		{ 1000, "b", 1, true },
	};
	struct election_watch w;

	(void)state;
	election_start(&w, &timing_default, 0);
	for (size_t i = 0; i < ARRAY_SIZE(looks); i++)
		assert_int_equal(look_at(&w, &looks[i]), ELECTION_ALIVE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_still_beat_counts_after_its_time),
		cmocka_unit_test(test_each_beat_begins_the_count_anew),
		cmocka_unit_test(test_another_holder_begins_the_count_anew),
		cmocka_unit_test(test_own_pause_counts_for_nothing),
		cmocka_unit_test(test_few_looks_are_not_enough),
		cmocka_unit_test(test_stopped_process_counts_after_its_time),
		cmocka_unit_test(test_stop_that_ended_or_was_anothers_begins_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
