/* Lists in pages against a small server: all pages as one, the limit kept, no page asked for twice.
 */
#include "test_listening.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/pages.h"
#include "proto/message.h"

enum { ROWS = 7 };

/* Rows 1 to ROWS, at most three a page; "next" says where the following one begins. */
static int serve_page(struct buf *b, const struct message *m, bool endless)
{
	int64_t after = 0, limit = 50;
	const struct value *p = message_params(m);

	(void)value_int(value_get(p, "after"), &after); /* absent: from the beginning */
	(void)value_int(value_get(p, "limit"), &limit);
	int64_t n = MIN_OF(MIN_OF(limit, 3), ROWS - after);
	bool next = endless || after + n < ROWS;
	int r = pack_result(b, message_id(m)) | pack_map(b, 1 + next) | pack_text(b, "rows") |
		pack_array(b, (size_t)n);

	for (int64_t i = 1; i <= n; i++)
		r |= pack_map(b, 1) | pack_text(b, "sequence") | pack_int(b, after + i);
	if (next)
		r |= pack_text(b, "next") | pack_int(b, after + n);
	return r;
}

/* Two rows are looked at; the second of four is let through. */
static int serve_sparse_page(struct buf *b, const struct message *m)
{
	int64_t after = 0;

	(void)value_int(value_get(message_params(m), "after"), &after); /* absent: 0 */
	bool found = after % 4 == 0 && after + 2 <= ROWS, next = after + 2 < ROWS;
	int r = pack_result(b, message_id(m)) | pack_map(b, 1 + next) | pack_text(b, "rows") |
		pack_array(b, found);

	if (found)
		r |= pack_map(b, 1) | pack_text(b, "sequence") | pack_int(b, after + 2);
	if (next)
		r |= pack_text(b, "next") | pack_int(b, after + 2);
	return r;
}

static void serve_requests(int fd, bool endless)
{
	uint8_t bytes[4096];
	size_t n = 0, len;
	ssize_t got;

	while ((got = read(fd, bytes + n, sizeof(bytes) - n)) > 0) {
		struct buf b = BUF_INIT(0);
		struct message *m = NULL;

		n += (size_t)got;
		if (message_walk(bytes, n, &message_request_limits, &len, NULL) != MESSAGE_COMPLETE)
			continue;
		if (message_read(&m, bytes, len) != 0 ||
		    (value_get(message_params(m), "event") ? serve_sparse_page(&b, m)
							   : serve_page(&b, m, endless)) != 0 ||
		    write(fd, b.data, b.len) != (ssize_t)b.len)
			_exit(1);
		message_free(m);
		buf_deinit(&b);
		n = 0;
	}
}

static pid_t serve(const struct place *p, bool endless)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid != 0)
		return pid;
	(void)alarm(30);
	int fd = accept(p->listen_fd, NULL, NULL);
	if (fd < 0)
		_exit(2);
	serve_requests(fd, endless);
	_exit(0);
}

static void note_row(void *userdata, const struct value *row)
{
	char *seen = userdata;
	int64_t n = 0;

	assert_true(value_int(value_get(row, "sequence"), &n));
	seen[strlen(seen)] = (char)('0' + n);
}

static void read_rows(const struct place *place, int64_t after, int64_t limit, bool endless,
		      const char *expected)
{
	char seen[64] = "";
	struct cli c = { .options = { .socket = place->path } };
	struct pages p = { .method = "audit_read",
			   .list = "rows",
			   .by_number = true,
			   .after = after,
			   .limit = limit,
			   .row = note_row,
			   .userdata = seen };
	pid_t pid = serve(place, endless);
	int status = -1;

	assert_int_equal(pages_read(&c, &p), CLI_OK);
	assert_string_equal(seen, expected);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_all_pages_are_read(void **state)
{
	read_rows(*state, -1, -1, false, "1234567");
}

static void test_the_limit_is_of_all_pages_together(void **state)
{
	read_rows(*state, 0, 5, false, "12345");
	read_rows(*state, 3, 2, false, "45");
	read_rows(*state, 5, 50, false, "67");
	read_rows(*state, 7, 50, false, "");
}

/* A broker that always knows of another page must not hold us for ever. */
static void test_a_page_that_goes_on_nowhere_is_the_last(void **state)
{
	read_rows(*state, 0, -1, true, "1234567");
}

/* A filter lets rows 2 and 6 through, and each page looks at two rows. */
static void test_an_empty_page_may_go_on(void **state)
{
	static const struct call_param filter[] = { CALL_PARAM_TEXT("event", "sparse") };
	const struct place *place = *state;
	char seen[64] = "";
	struct cli c = { .options = { .socket = place->path } };
	struct pages p = { .method = "audit_read",
			   .list = "rows",
			   .by_number = true,
			   .limit = -1,
			   .params = filter,
			   .n_params = ARRAY_SIZE(filter),
			   .row = note_row,
			   .userdata = seen };
	pid_t pid = serve(place, false);
	int status = -1;

	assert_int_equal(pages_read(&c, &p), CLI_OK);
	assert_string_equal(seen, "26");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define PAGES_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAGES_TEST(test_all_pages_are_read),
		PAGES_TEST(test_the_limit_is_of_all_pages_together),
		PAGES_TEST(test_a_page_that_goes_on_nowhere_is_the_last),
		PAGES_TEST(test_an_empty_page_may_go_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
