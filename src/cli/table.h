/* Tables for people: aligned columns, cut to a terminal's width, the widest first. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/macros.h"

#define TABLE_COLUMNS_MAX 12

struct table;

/* `titles` ends with NULL and stays the caller's; a title that begins with ">" is of a column that
 * is aligned right. */
struct table *table_new(const char *const titles[]) _must_check_;
void table_free(struct table *t);
DEFINE_CLEANUP(struct table, table)

/* The cells of a row from left to right, each added by its own call; table_end_row() fills the
 * rest. */
void table_cell(struct table *t, const char *fmt, ...) _printf_(2, 3);
void table_end_row(struct table *t);
size_t table_n_rows(const struct table *t);
/* The columns of the terminal behind `fd`; SIZE_MAX if there is none, since what a program reads is
 * never cut. */
size_t table_width(int fd);
/* Prints title and rows, no line wider than `width` unless all columns are narrow as it is. */
void table_print(const struct table *t, FILE *f, size_t width);
