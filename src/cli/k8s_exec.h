/* An ExecCredential, as client-go's credential plugins print it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct keybroker_lease;

/* The apiVersion to answer in, static: the one that `info`, the value of KUBERNETES_EXEC_INFO,
 * asks for, or v1 if it is NULL or empty. NULL with `ret_why` if there is none. */
const char *k8s_exec_version(const char *info, char *ret_why, size_t size) _must_check_;
/*
 * When the credential is to be replaced, in Unix milliseconds; 0: never. That is a tenth of its
 * time, a minute at most, before the key expires or the lease ends (0: does not): client-go uses it
 * up to this moment, and what is under way then is still to be honoured.
 */
int64_t k8s_exec_until_ms(int64_t now_ms, int64_t expires_at_ms, int64_t ends_at_ms);
void k8s_exec_print(const char *version, const struct keybroker_lease *l);
