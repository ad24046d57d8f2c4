/* The types of options: text to value and back. For core/option.c; others use core/option.h. */
#pragma once

#include "core/option.h"

/* Sets the value; OPTION_E_BAD and `ret_why` if the text isn't one. */
int option_value_parse(const struct option *o, const char *const *texts, size_t n, void *base,
		       char ret_why[OPTION_WHY_MAX]) _must_check_;
/* Frees it and leaves "none" behind. */
void option_value_clear(const struct option *o, void *base);
/* Writes the reason and yields OPTION_E_BAD. */
int option_value_refuse(char ret_why[OPTION_WHY_MAX], const char *fmt, ...) _printf_(2, 3);
