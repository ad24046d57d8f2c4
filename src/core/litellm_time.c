/*
 * LiteLLM's times: ISO 8601 with a fraction of any length, in UTC or with an offset. Pure
 * arithmetic: no time zone of this machine, no libc calendar.
 */
#include "core/litellm.h"

#include <errno.h>
#include <string.h>

#define LITELLM_DAYS_TO_1970 719468 /* from 1 March of the year 0 */

static bool litellm_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Exactly `n` digits within [min, max]; moves `p` behind them. */
static bool litellm_digits(const char **p, int n, int min, int max, int *ret)
{
	int v = 0;

	for (int i = 0; i < n; i++, (*p)++) {
		if (!litellm_is_digit(**p))
			return false;
		v = v * 10 + (**p - '0');
	}
	*ret = v;
	return v >= min && v <= max;
}

static bool litellm_char(const char **p, char c)
{
	if (**p != c)
		return false;
	(*p)++;
	return true;
}

static int litellm_month_days(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

/* Days since 1970-01-01 in the Gregorian calendar. Years begin in March here, so that the leap day
 * is the last one. */
static int64_t litellm_days(int year, int month, int day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;

	return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - LITELLM_DAYS_TO_1970;
}

static bool litellm_date(const char **p, int64_t *ret_days)
{
	int year, month, day;

	if (!litellm_digits(p, 4, 1, 9999, &year) || !litellm_char(p, '-') ||
	    !litellm_digits(p, 2, 1, 12, &month) || !litellm_char(p, '-') ||
	    !litellm_digits(p, 2, 1, 31, &day) || day > litellm_month_days(year, month))
		return false;
	*ret_days = litellm_days(year, month, day);
	return true;
}

/* ".605073" cut to milliseconds; no fraction is 0, a point without digits is not one. */
static bool litellm_fraction(const char **p, int *ret_ms)
{
	int ms = 0, n = 0;

	*ret_ms = 0;
	if (!litellm_char(p, '.'))
		return true;
	for (; litellm_is_digit(**p); (*p)++, n++)
		if (n < 3)
			ms = ms * 10 + (**p - '0');
	if (n == 0)
		return false;
	for (; n < 3; n++)
		ms *= 10;
	*ret_ms = ms;
	return true;
}

static bool litellm_clock(const char **p, int64_t *ret_ms)
{
	int hour, minute, second, ms;

	if (!litellm_digits(p, 2, 0, 23, &hour) || !litellm_char(p, ':') ||
	    !litellm_digits(p, 2, 0, 59, &minute) || !litellm_char(p, ':') ||
	    !litellm_digits(p, 2, 0, 59, &second) || !litellm_fraction(p, &ms))
		return false;
	*ret_ms = ((hour * 60 + minute) * 60 + second) * INT64_C(1000) + ms;
	return true;
}

/* "Z" or "±hh:mm". */
static bool litellm_zone(const char **p, int64_t *ret_ms)
{
	int sign = **p == '-' ? -1 : 1;
	int hour, minute;

	*ret_ms = 0;
	if (litellm_char(p, 'Z'))
		return true;
	if ((!litellm_char(p, '+') && !litellm_char(p, '-')) ||
	    !litellm_digits(p, 2, 0, 23, &hour) || !litellm_char(p, ':') ||
	    !litellm_digits(p, 2, 0, 59, &minute))
		return false;
	*ret_ms = sign * (hour * 60 + minute) * INT64_C(60000);
	return true;
}

int litellm_parse_time(const char *text, int64_t *ret_ms)
{
	int64_t days, clock_ms, zone_ms;
	const char *p = text;

	if (!p || !litellm_date(&p, &days) || !litellm_char(&p, 'T') ||
	    !litellm_clock(&p, &clock_ms) || !litellm_zone(&p, &zone_ms) || *p)
		return -EINVAL;
	*ret_ms = days * INT64_C(86400000) + clock_ms - zone_ms;
	return 0;
}
