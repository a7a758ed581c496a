# ruff: noqa: PT009 (the test runner shows what differs for assertEqual only)
from datetime import date
from decimal import Decimal
from io import StringIO
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.db.backends.postgresql.psycopg_any import DateRange
from django.test import TestCase
from django.urls import reverse

from .management.commands.fill_shelves import HOUSES
from .models import Book, BookQuerySet, Contribution, Copy, Hold, Person

ALICE = "Alice's Adventures in Wonderland"
MARINER = "The Rime of the Ancient Mariner"
RUBAIYAT = "Rubáiyát of Omar Khayyám, the Astronomer-Poet of Persia"
SELBORNE = "The Natural History and Antiquities of Selborne"
SKETCH = "Sketch of the Analytical Engine Invented by Charles Babbage"
VINDICATION = "A Vindication of the Rights of Woman"


def titles(books: BookQuerySet) -> list[str]:
    return [book.title for book in books]


class OpeningStockTests(TestCase):
    def test_books_and_contributors(self) -> None:
        self.assertEqual(
            titles(Book.objects.all()), [VINDICATION, ALICE, RUBAIYAT, SKETCH, SELBORNE, MARINER]
        )
        sketch = Book.objects.get(title=SKETCH)
        self.assertEqual(
            list(sketch.contributions.values_list("person__name", "role")),
            [("Luigi Federico Menabrea", "author"), ("Ada Lovelace", "translator")],
        )


class FullTextTests(TestCase):
    def test_words_match_in_all_their_forms(self) -> None:
        self.assertEqual(titles(Book.objects.search("swallow watching")), [SELBORNE])
        self.assertEqual(titles(Book.objects.search("computing engines")), [SKETCH])
        self.assertEqual(titles(Book.objects.search("lovelace")), [SKETCH])

    def test_web_search_syntax(self) -> None:
        self.assertEqual(titles(Book.objects.search('"rights of woman"')), [VINDICATION])
        self.assertEqual(titles(Book.objects.search('"woman rights"')), [])
        self.assertEqual(titles(Book.objects.search("albatross or swallows -parson")), [MARINER])

    def test_a_title_ranks_above_a_name_and_a_name_above_a_note(self) -> None:
        def shelve(title: str, responsibility: str, note: str) -> None:
            publisher = Book.objects.get(title=ALICE).publisher
            Book.objects.create(
                title=title,
                responsibility=responsibility,
                note=note,
                publisher=publisher,
                published=1871,
            )

        shelve("By note", "by nobody", "Of nightingales.")
        shelve("By name", "by Florence Nightingale", "")
        shelve("A Nightingale", "by nobody", "")
        self.assertEqual(
            titles(Book.objects.search("nightingale")), ["A Nightingale", "By name", "By note"]
        )

    def test_the_search_column_follows_its_book(self) -> None:
        Book.objects.filter(title=ALICE).update(note="A dormouse in a teapot.")
        self.assertEqual(titles(Book.objects.search("dormice OR dormouse")), [ALICE])
        self.assertEqual(titles(Book.objects.search("caucus")), [])


class ArrayTests(TestCase):
    def test_contains(self) -> None:
        self.assertEqual(titles(Book.objects.about("birds")), [SELBORNE, MARINER])
        self.assertEqual(titles(Book.objects.about("birds", "poetry")), [MARINER])

    def test_overlap_length_and_position(self) -> None:
        books = Book.objects.all()
        self.assertEqual(
            titles(books.filter(subjects__overlap=["engines", "fantasy"])), [ALICE, SKETCH]
        )
        self.assertEqual(titles(books.filter(subjects__len=3)), [SELBORNE, MARINER])
        self.assertEqual(titles(books.filter(subjects__0="poetry")), [RUBAIYAT, MARINER])


class JSONTests(TestCase):
    def test_keys_and_nested_values(self) -> None:
        copies = Copy.objects.order_by("price")
        self.assertEqual(copies.get(particulars__plates__lt=9).book.title, SELBORNE)
        self.assertEqual(copies.get(particulars__faults__0="foxing").price, Decimal("380.00"))
        self.assertEqual(
            set(copies.filter(particulars__has_key="provenance").values_list("book__title")),
            {(RUBAIYAT,), (SKETCH,)},
        )

    def test_contains(self) -> None:
        bound_in_calf = Copy.objects.filter(particulars__contains={"binding": "calf"})
        self.assertEqual(
            set(bound_in_calf.values_list("book__title")), {(SELBORNE,), (VINDICATION,)}
        )

    def test_signed_only_while_for_sale(self) -> None:
        self.assertEqual(titles(Book.objects.signed()), [ALICE, SKETCH])
        Copy.objects.filter(book__title=SKETCH).update(sold=date(2026, 5, 1))
        self.assertEqual(titles(Book.objects.signed()), [ALICE])


class PriceTests(TestCase):
    def price_tag(self) -> tuple[int, Decimal]:
        alice: Any = Book.objects.priced().get(title=ALICE)
        return alice.for_sale, alice.price_from

    def test_from_the_cheapest_for_sale(self) -> None:
        self.assertEqual(self.price_tag(), (2, Decimal("4200.00")))
        Copy.objects.filter(price=Decimal("4200.00")).update(sold=date(2026, 5, 1))
        self.assertEqual(self.price_tag(), (1, Decimal("18500.00")))


class ConstraintTests(TestCase):
    def assertRefused(self, constraint: str, **changes: object) -> None:
        with self.assertRaisesMessage(IntegrityError, constraint), transaction.atomic():
            Copy.objects.update(**changes)

    def test_copies(self) -> None:
        self.assertRefused("copy_has_a_price", price=0)
        self.assertRefused("copy_acquired_before_sold", sold=date(2026, 3, 1))

    def test_people(self) -> None:
        person = Person(name="Benjamin Button", born=1860, died=1800)
        with self.assertRaisesMessage(ValidationError, "person_lived_forwards"):
            person.full_clean()

    def test_a_person_is_named_once_in_a_role(self) -> None:
        carroll = Contribution.objects.get(person__name="Lewis Carroll")
        with self.assertRaisesMessage(IntegrityError, "contribution_named_once"):
            Contribution.objects.create(book=carroll.book, person=carroll.person)

    def test_a_copy_is_held_for_one_customer_at_a_time(self) -> None:
        one, other = Copy.objects.filter(book__title=ALICE)
        week = DateRange(date(2026, 6, 1), date(2026, 6, 8))
        next_week = DateRange(date(2026, 6, 8), date(2026, 6, 15))
        Hold.objects.create(copy=one, customer="Miss Prism", period=week)
        Hold.objects.create(copy=one, customer="Dr Chasuble", period=next_week)
        Hold.objects.create(copy=other, customer="Dr Chasuble", period=week)
        clash = Hold(copy=one, customer="Dr Chasuble", period=week)
        with self.assertRaisesMessage(ValidationError, "hold_for_one_customer"):
            clash.full_clean()
        with self.assertRaisesMessage(IntegrityError, "hold_for_one_customer"):
            clash.save()


class SearchPageTests(TestCase):
    def found(self, **query: str) -> list[str]:
        response = self.client.get(reverse("search"), query)
        self.assertEqual(response.status_code, 200)
        return titles(response.context["page"])

    def test_everything_without_a_question(self) -> None:
        self.assertEqual(len(self.found()), 6)

    def test_filters_add_up(self) -> None:
        self.assertEqual(self.found(subject="Poetry"), [RUBAIYAT, MARINER])
        self.assertEqual(self.found(subject="Poetry", q="Doré"), [MARINER])
        self.assertEqual(self.found(subject="Poetry", q="Doré", signed="on"), [])

    def test_shows_what_it_found(self) -> None:
        response = self.client.get(reverse("search"), {"q": "albatross"})
        self.assertContains(response, MARINER)
        self.assertContains(response, "1 copy from £1,350.00")
        self.assertContains(response, 'href="/?subject=poetry"')

    def test_odd_questions_are_answered(self) -> None:
        for question in ("'", '"', "%", "a & | !", "\x00", "x" * 1000):
            with self.subTest(question):
                self.assertEqual(self.found(q=question), [])

    def test_a_page_that_is_not_there(self) -> None:
        self.assertEqual(len(self.found(page="99")), 6)


class FillShelvesTests(TestCase):
    def fill(self, books: int) -> list[tuple[object, ...]]:
        call_command("fill_shelves", books=books, stdout=StringIO())
        return list(
            Copy.objects.order_by("pk").values_list(
                "book__title", "book__note", "book__responsibility", "price", "particulars"
            )
        )

    def test_in_one_go_or_in_steps_the_books_are_the_same(self) -> None:
        self.fill(30)
        in_steps = self.fill(50)
        Book.objects.filter(publisher__name__in=HOUSES).delete()
        self.assertEqual(self.fill(50), in_steps)
        self.assertEqual(Book.objects.count(), 50)

    def test_pages_of_books(self) -> None:
        self.fill(50)
        response = self.client.get(reverse("search"), {"page": "2"})
        self.assertContains(response, "Page 2 of 3")
        self.assertContains(response, 'rel="next" href="?page=3"')


class AdminTests(TestCase):
    def test_every_page_opens(self) -> None:
        self.client.force_login(User.objects.create_superuser("keeper"))
        for model in ("publisher", "person", "book", "copy"):
            pages = [
                reverse(f"admin:catalogue_{model}_changelist"),
                reverse(f"admin:catalogue_{model}_add"),
            ]
            for page in pages:
                with self.subTest(page):
                    self.assertEqual(self.client.get(page, {"q": "a"}).status_code, 200)
        alice = Book.objects.get(title=ALICE)
        page = reverse("admin:catalogue_book_change", args=[alice.pk])
        self.assertContains(self.client.get(page), "Tenniel")
