package peers;

/** Times as YYYY-MM-DD, T or a blank, HH:MM:SS, maybe a fraction, and Z or an offset, read from bytes. */
final class IsoTime {
    static final long INVALID = Long.MIN_VALUE;

    private static final int[] DAYS = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    private static final int SHORTEST = 20;
    private static final int MOST_FRACTION_DIGITS = 9;

    /** Returns milliseconds since 1970, or INVALID. */
    static long epochMillis(byte[] text, int from, int to) {
        if (to - from < SHORTEST
                || text[from + 4] != '-'
                || text[from + 7] != '-'
                || (text[from + 10] != 'T' && text[from + 10] != ' ')
                || text[from + 13] != ':'
                || text[from + 16] != ':') {
            return INVALID;
        }
        int century = twoDigits(text, from);
        int yearOfCentury = twoDigits(text, from + 2);
        int month = twoDigits(text, from + 5);
        int day = twoDigits(text, from + 8);
        int hour = twoDigits(text, from + 11);
        int minute = twoDigits(text, from + 14);
        int second = twoDigits(text, from + 17);
        // A negative number is one that is not made of digits.
        if ((century | yearOfCentury | month | day | hour | minute | second) < 0
                || month < 1
                || month > 12
                || day < 1
                || hour > 23
                || minute > 59
                || second > 59) {
            return INVALID;
        }
        int year = century * 100 + yearOfCentury;
        boolean isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        if (day > DAYS[month - 1] + (month == 2 && isLeap ? 1 : 0)) {
            return INVALID;
        }
        long millis = ((daysSince1970(year, month, day) * 24 + hour) * 60 + minute) * 60_000L + second * 1000L;
        int at = from + 19;
        if (text[at] == '.') {
            int first = ++at;
            for (int scale = 100; at < to && text[at] >= '0' && text[at] <= '9'; at++, scale /= 10) {
                millis += (long) (text[at] - '0') * scale;
            }
            if (at == first || at - first > MOST_FRACTION_DIGITS || at == to) {
                return INVALID;
            }
        }
        if (text[at] == 'Z') {
            return at + 1 == to ? millis : INVALID;
        }
        int rest = to - at;
        boolean hasColon = rest == 6 && text[at + 3] == ':';
        if ((text[at] != '+' && text[at] != '-') || (rest != 5 && !hasColon)) {
            return INVALID;
        }
        int hours = twoDigits(text, at + 1);
        int minutes = twoDigits(text, to - 2);
        if ((hours | minutes) < 0) {
            return INVALID;
        }
        long offset = (hours * 60L + minutes) * 60_000L;
        return text[at] == '+' ? millis - offset : millis + offset;
    }

    private static int twoDigits(byte[] text, int at) {
        int tens = text[at] - '0';
        int ones = text[at + 1] - '0';
        return tens < 0 || tens > 9 || ones < 0 || ones > 9 ? -1 : tens * 10 + ones;
    }

    /** Counts years from March, so that the leap day is a year's last day. */
    private static long daysSince1970(int year, int month, int day) {
        int marchYear = month <= 2 ? year - 1 : year;
        int monthFromMarch = (month + 9) % 12;
        long leapDays = marchYear / 4 - marchYear / 100 + marchYear / 400;
        return marchYear * 365L + leapDays + (153 * monthFromMarch + 2) / 5 + day - 1 - 719_468;
    }

    private IsoTime() {}
}
