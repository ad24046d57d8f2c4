/* keybrokerd: reads its command line and configuration, then does what was asked. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/alloc.h"
#include "base/crypt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "daemon/daemon.h"
#include "daemon/fail.h"
#include "daemon/options.h"
#include "io/config.h"
#include "io/seal_key.h"

static int main_init(const struct options *o, const struct config *config)
{
	_cleanup_(freep) char *path = config_file_place(&o->request);
	int r = config_init_file(config, path);

	if (r != 0)
		return EX_CANTCREAT; /* the log says why */
	printf("wrote %s\n", path);
	return EX_OK;
}

static int main_init_seal(const struct options *o)
{
	_cleanup_(secret_freep) struct secret *key = NULL;
	_cleanup_(freep) char *path = seal_key_path(o->request.system_mode);

	if (seal_key_load(o->request.system_mode, true, &key) != 0)
		return EX_CANTCREAT;
	printf("the seal key is in %s\n", path);
	return EX_OK;
}

static int main_act(const struct options *o)
{
	struct config *config = NULL;
	int r;

	if (o->action == OPTIONS_INIT_SEAL)
		return main_init_seal(o);
	if (config_load(&o->request, &config) != 0)
		return EX_CONFIG;
	log_set_level(config->log_level);
	switch (o->action) {
	case OPTIONS_RUN:
		return daemon_run(o, config); /* frees it */
	case OPTIONS_CHECK:
		config_show(stdout, config);
		r = EX_OK;
		break;
	case OPTIONS_INIT:
		r = main_init(o, config);
		break;
	case OPTIONS_INIT_SEAL:
	case OPTIONS_LIST_FAIL_POINTS:
		r = EX_SOFTWARE; /* done before */
		break;
	}
	config_free(config);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	_cleanup_(config_env_freep) struct config_env *env = NULL;
	int r = config_env_new(&env);

	config_env_scrub(); /* before anything else could fork, log or dump */
	if (r < 0 || crypt_init() < 0) {
		log_error("cannot start: %s", strerrordesc_np(r < 0 ? -r : ENOSYS));
		return EX_OSERR;
	}
	json_init();
	r = options_parse(argc, argv, &o);
	if (r != 0)
		return r == OPTIONS_E_DONE ? EX_OK : EX_USAGE;
	o.request.env = env;
#ifdef KEYBROKER_TESTING
	if (o.action == OPTIONS_LIST_FAIL_POINTS) {
		fail_list();
		return EX_OK;
	}
#endif
	return main_act(&o);
}
