/* Reads and checks an import file. It holds a key: every copy is wiped, and no message quotes it.
 */
#include "cli/import_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/json.h"
#include "cli/cli.h"

enum { IMPORT_FILE_MAX = 64 << 10, IMPORT_FILE_CHUNK = 4096 };

static const struct {
	const char *name;
	bool needed;
	size_t offset;
} import_file_fields[] = {
	{ "token", true, offsetof(struct import_file, token) },
	{ "alias", true, offsetof(struct import_file, alias) },
	{ "team_id", false, offsetof(struct import_file, team_id) },
	{ "base_url", false, offsetof(struct import_file, base_url) },
	{ "created_at", false, offsetof(struct import_file, created_at) },
};

static const char *import_file_field_wrong(const struct json *doc, const char *name, bool needed)
{
	const char *text = json_get_text(doc, name);

	if (json_is_null(json_get(doc, name)))
		return needed ? "is missing" : NULL;
	if (!text)
		return "must be text";
	return *text ? NULL : "is empty";
}

int import_file_parse(struct import_file *ret, const char *text, size_t n, char *ret_why,
		      size_t size)
{
	_cleanup_(json_freep) struct json *doc = json_parse(text, n);
	struct import_file f = { .created_at_ms = -1 };

	if (!json_is_object(doc)) {
		(void)snprintf(ret_why, size, doc ? "it is not a JSON object" : "it is not JSON");
		return CLI_DATA;
	}
	for (size_t i = 0; i < ARRAY_SIZE(import_file_fields); i++) {
		const char *name = import_file_fields[i].name;
		bool is_time = strcmp(name, "created_at") == 0 &&
			       json_get_int(doc, name, &f.created_at_ms);
		const char *wrong =
			is_time ? NULL
				: import_file_field_wrong(doc, name, import_file_fields[i].needed);

		if (wrong) {
			(void)snprintf(ret_why, size, "the field \"%s\" %s", name, wrong);
			return CLI_DATA;
		}
		*(const char **)(void *)((char *)&f + import_file_fields[i].offset) =
			json_get_text(doc, name);
	}
	*ret = f;
	ret->doc = TAKE(doc);
	return CLI_OK;
}

static int import_file_load(int fd, struct buf *b)
{
	for (;;) {
		uint8_t *room;
		int r = buf_reserve(b, IMPORT_FILE_CHUNK, &room);
		if (r < 0)
			return r;
		ssize_t n = read(fd, room, IMPORT_FILE_CHUNK);

		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		b->len += n > 0 ? (size_t)n : 0;
	}
}

int import_file_read(struct import_file *ret, const char *path, char *ret_why, size_t size)
{
	_cleanup_(fd_close) int fd = -1;
	struct buf b = BUF_INIT(IMPORT_FILE_MAX);
	struct stat st;

	fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		(void)snprintf(ret_why, size, "it cannot be read: %s", strerror(errno));
		return CLI_NO_INPUT;
	}
	int r = import_file_load(fd, &b);
	if (r == -ENOBUFS)
		(void)snprintf(ret_why, size, "it is larger than %d KiB", IMPORT_FILE_MAX >> 10);
	else if (r < 0)
		(void)snprintf(ret_why, size, "it cannot be read: %s", strerror(-r));
	r = r < 0 ? CLI_DATA : import_file_parse(ret, (const char *)b.data, b.len, ret_why, size);
	buf_deinit(&b);
	if (r == CLI_OK && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		ret->mode = st.st_mode & 07777;
	return r;
}

void import_file_deinit(struct import_file *f)
{
	json_free(f->doc);
	f->doc = NULL;
}
