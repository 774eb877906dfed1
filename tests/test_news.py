from __future__ import annotations

from agent.capture.news import MOST, News


def test_a_failure_that_differs_in_numbers_and_quoted_input_only_is_no_news() -> None:
    news = News()
    assert news.take("/dev/ttyUSB0: nothing readable comes, but 228 bytes, as 'U\\x91\\'x'; set baud")
    assert not news.take('/dev/ttyUSB0: nothing readable comes, but 61 bytes, as "q\'"; set baud')
    assert news.take("/dev/ttyUSB0: no such device")
    assert not news.take("/dev/ttyUSB0: nothing readable comes, but 7.5 bytes, as ''; set baud")


def test_a_failure_that_quotes_an_earlier_one_is_no_news() -> None:
    news = News()
    assert news.take("ttyUSB0: 228 bytes that are not part of a measurement")
    assert not news.take("no sample for 5.0 s (ttyUSB0: 12 bytes that are not part of a measurement); connecting again")
    assert not news.take("ttyUSB0: 228 bytes")


def test_what_was_forgotten_is_news_again() -> None:
    news = News()
    assert news.take("it went away")
    news.forget()
    assert news.take("it went away")


def test_a_device_that_fails_in_ever_new_words_is_heard_a_number_of_times() -> None:
    news = News()
    assert sum(news.take(f"fault {'x' * k}y") for k in range(3 * MOST)) == MOST
