from ptystream.wire.dectris_series import REMEMBERED, SeriesBook


def test_the_oldest_series_is_forgotten():
    book = SeriesBook()
    for number in range(REMEMBERED + 2):
        book.begin(number, user=None, told="")
    known = [n for n in range(REMEMBERED + 2) if book.get(n) is not None]
    assert known == list(range(2, REMEMBERED + 2))


def test_a_series_ends_once_whoever_says_so():
    book = SeriesBook()
    book.begin(7, user=None, told="")
    assert book.end(7) is not None
    assert book.end(7) is None
    assert book.end(8) is None
