/* Bytes of a stream socket, and the descriptor that came with them. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/macros.h"

/*
 * recv() with MSG_DONTWAIT, -1 with errno alike. `ret_fd` (the caller's to close; close-on-exec)
 * is the first descriptor that came with the bytes (SCM_RIGHTS), -1 if none did; no
 * other stays open. `ret_sender` (NULL: unless SO_PASSCRED is set) is the pid of who sent the
 * first of the bytes, 0 if unknown.
 */
ssize_t receive(int fd, void *data, size_t size, int *ret_fd, pid_t *ret_sender) _must_check_;
