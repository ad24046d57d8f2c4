/* The files of the configuration: the main one and conf.d. Reads only what nobody else may write.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "core/config_build.h"
#include "io/config_file.h"

#define CONFIG_FILE_MAX ((size_t)1 << 20)

/* Who can write here decides who gets keys. */
static bool config_files_trusts(const char *path, int fd, mode_t type, struct config_report *report)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		config_report_error(report, path, "%s", strerrordesc_np(errno));
		return false;
	}
	if ((st.st_mode & S_IFMT) != type) {
		config_report_error(report, path,
				    type == S_IFREG ? "is no regular file" : "is no directory");
		return false;
	}
	if (st.st_uid != 0 && st.st_uid != geteuid()) {
		config_report_error(report, path, "belongs to uid %u, who could change it",
				    st.st_uid);
		return false;
	}
	if (st.st_mode & S_IWOTH) {
		config_report_error(report, path, "can be written by everybody: chmod o-w %s",
				    path);
		return false;
	}
	return true;
}

/* The whole text with a NUL behind it; NULL if that was reported. */
static char *config_files_text(const char *path, int fd, size_t *ret_n,
			       struct config_report *report)
{
	_cleanup_(freep) char *text = xcalloc(CONFIG_FILE_MAX + 2, 1);
	size_t n = 0;
	ssize_t got;

	do {
		got = read(fd, text + n, CONFIG_FILE_MAX + 1 - n);
		if (got > 0)
			n += (size_t)got;
	} while (got > 0 || (got < 0 && errno == EINTR));
	if (got < 0) {
		config_report_error(report, path, "%s", strerrordesc_np(errno));
		return NULL;
	}
	if (n > CONFIG_FILE_MAX) {
		config_report_error(report, path, "is longer than %zu KiB", CONFIG_FILE_MAX / 1024);
		return NULL;
	}
	text[n] = '\0';
	*ret_n = n;
	return TAKE(text);
}

static void config_files_read(const char *path, bool required, struct config *c,
			      struct config_report *report, bool *found)
{
	/* NONBLOCK: a FIFO is refused below, not waited for */
	_cleanup_(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_(freep) char *text = NULL;
	size_t n;

	if (fd < 0 && !required && (errno == ENOENT || errno == ENOTDIR))
		return;
	*found = true;
	if (fd < 0)
		config_report_error(report, path, "%s", strerrordesc_np(errno));
	if (fd < 0 || !config_files_trusts(path, fd, S_IFREG, report))
		return;
	text = config_files_text(path, fd, &n, report);
	if (text)
		config_file_parse(path, text, n, c, report);
}

static int config_files_is_conf(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return entry->d_name[0] != '.' && n > 5 && strcmp(entry->d_name + n - 5, ".conf") == 0;
}

static int config_files_by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name); /* not by the locale's order */
}

static void config_files_read_dir(const char *dir, struct config *c, struct config_report *report,
				  bool *found)
{
	_cleanup_(fd_close) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **entries = NULL;
	int n;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return;
	if (fd < 0)
		config_report_error(report, dir, "%s", strerrordesc_np(errno));
	if (fd < 0 || !config_files_trusts(dir, fd, S_IFDIR, report))
		return;
	n = scandir(dir, &entries, config_files_is_conf, config_files_by_name);
	if (n < 0)
		config_report_error(report, dir, "%s", strerrordesc_np(errno));
	for (int i = 0; i < n; i++) {
		_cleanup_(freep) char *path = xasprintf("%s/%s", dir, entries[i]->d_name);

		config_files_read(path, true, c, report, found);
		free(entries[i]);
	}
	free(entries);
}

void config_file_read_all(const char *path, bool required, struct config *c,
			  struct config_report *report, bool *ret_found)
{
	const char *slash = strrchr(path, '/');
	_cleanup_(freep) char *dir =
		xasprintf("%.*s/conf.d", slash ? (int)(slash - path) : 1, slash ? path : ".");
	bool found = false;

	config_files_read(path, required, c, report, &found);
	config_files_read_dir(dir, c, report, &found);
	*ret_found = found;
}
