"""Made-up books by the thousand, for trying things out and for measuring."""

from datetime import date, timedelta
from decimal import Decimal
from itertools import product
from random import Random
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from bookshop.catalogue.models import Book, Contribution, Copy, Person, Publisher

FORENAMES = ("Agnes", "Arthur", "Beatrix", "Dorothea", "Edmund", "Harriet", "Isaac", "Silas")
SURNAMES = ("Ashdown", "Brontley", "Chaffinch", "Drummond", "Larkspur", "Penhallow", "Thackrah")
HOUSES = {
    "Hart and Quill": "London",
    "The Minster Press": "York",
    "Macready, Bell and Co.": "Edinburgh",
    "Widow Treharne": "Bristol",
}
KINDS = {
    "A Natural History of": ("natural history",),
    "The Birds of": ("birds", "natural history"),
    "Letters from": ("letters", "travel"),
    "Sketches and Walks in": ("travel",),
    "Poems Written in": ("poetry",),
    "The Antiquities of": ("history",),
    "Ghosts and Legends of": ("folklore", "history"),
    "The Lighthouses of": ("engines", "the sea"),
}
PLACES = ("Anglesey", "Cornwall", "the Fens", "Kent", "Orkney", "the Peak", "Shropshire", "Skye")
REMARKS = (
    "A handsome set with wide margins and the half-titles present.",
    "Lightly foxed at both ends, as is usual with this paper.",
    "The folding map has been strengthened along its creases.",
    "With a list of subscribers, among them two admirals and a bishop.",
    "Some pencil notes by an early reader who disagreed with the author.",
    "The plates were coloured by hand and have kept their freshness.",
    "Rebacked long ago with the original label laid down.",
    "Scarce: the greater part of the impression was lost in a fire at the binder's.",
)
BINDINGS = ("boards", "calf", "green cloth", "half morocco", "vellum", "wrappers")
OWNERS = ("a circulating library", "a lighthouse keeper", "a rector", "the Earl of Thurso")
OPENING_DAY = date(2026, 3, 2)
BATCH = 1000


class Command(BaseCommand):
    help = "Fill the shelves with made-up books, the same ones every time."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--books",
            type=int,
            default=5000,
            help="How many books the shop has in the end (default: %(default)s).",
        )

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        people, houses = made_up_people(), made_up_houses()
        # Each book has dice of its own, so that filling up in steps gives the same books.
        numbers = range(Book.objects.count(), options["books"])
        entries = [made_up_book(Random(number), people, houses) for number in numbers]
        books = [book for book, _, _ in entries]
        contributions = [each for _, contributions, _ in entries for each in contributions]
        copies = [each for _, _, copies in entries for each in copies]
        Book.objects.bulk_create(books, batch_size=BATCH)
        Contribution.objects.bulk_create(contributions, batch_size=BATCH)
        Copy.objects.bulk_create(copies, batch_size=BATCH)
        if options["verbosity"]:
            self.stdout.write(f"Shelved {len(books)} books in {len(copies)} copies")


def made_up_people() -> list[Person]:
    names = [f"{forename} {surname}" for forename, surname in product(FORENAMES, SURNAMES)]
    Person.objects.bulk_create(
        [
            Person(name=name, born=1740 + number, died=1790 + number + number % 40)
            for number, name in enumerate(names)
        ],
        ignore_conflicts=True,
    )
    return list(Person.objects.filter(name__in=names))


def made_up_houses() -> list[Publisher]:
    Publisher.objects.bulk_create(
        [Publisher(name=name, city=city) for name, city in HOUSES.items()],
        ignore_conflicts=True,
    )
    return list(Publisher.objects.filter(name__in=HOUSES))


def made_up_book(
    random: Random, people: list[Person], houses: list[Publisher]
) -> tuple[Book, list[Contribution], list[Copy]]:
    kind, place = random.choice(list(KINDS)), random.choice(PLACES)
    author, illustrator = random.sample(people, 2)
    illustrated = random.random() < 0.3
    year = random.randint(1780, 1899)
    book = Book(
        title=f"{kind} {place} in the Year {year}",
        responsibility=f"by {author}" + (f"; illustrated by {illustrator}" if illustrated else ""),
        publisher=random.choice(houses),
        published=year + random.randint(0, 3),
        subjects=list(KINDS[kind]),
        note=" ".join(random.sample(REMARKS, 3)),
    )
    contributions = [Contribution(book=book, person=author)]
    if illustrated:
        role = Contribution.Role.ILLUSTRATOR
        contributions.append(Contribution(book=book, person=illustrator, role=role))
    return book, contributions, [made_up_copy(random, book) for _ in range(random.randint(1, 3))]


def made_up_copy(random: Random, book: Book) -> Copy:
    acquired = OPENING_DAY + timedelta(days=random.randrange(180))
    return Copy(
        book=book,
        condition=random.choice(Copy.Condition.values),
        particulars={
            "binding": random.choice(BINDINGS),
            "provenance": random.sample(OWNERS, random.randint(0, 2)),
            "signed": random.random() < 0.05,
        },
        price=Decimal(random.randint(16, 2400)) / 2,
        acquired=acquired,
        sold=acquired + timedelta(days=random.randrange(90)) if random.random() < 0.4 else None,
    )
