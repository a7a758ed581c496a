"""The first books of the shop."""

from datetime import date
from typing import Any

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

PUBLISHERS = {
    "B. White and Son": "London",
    "Bernard Quaritch": "London",
    "Doré Gallery": "London",
    "J. Johnson": "London",
    "Macmillan and Co.": "London",
    "Richard and John E. Taylor": "London",
}
PEOPLE = {
    "Gilbert White": (1720, 1793),
    "Mary Wollstonecraft": (1759, 1797),
    "Luigi Federico Menabrea": (1809, 1896),
    "Ada Lovelace": (1815, 1852),
    "Omar Khayyám": (1048, 1131),
    "Edward FitzGerald": (1809, 1883),
    "Lewis Carroll": (1832, 1898),
    "John Tenniel": (1820, 1914),
    "Samuel Taylor Coleridge": (1772, 1834),
    "Gustave Doré": (1832, 1883),
}
BOOKS: tuple[dict[str, Any], ...] = (
    {
        "title": "The Natural History and Antiquities of Selborne",
        "responsibility": "by Gilbert White",
        "contributors": {"Gilbert White": "author"},
        "publisher": "B. White and Son",
        "published": 1789,
        "subjects": ["natural history", "birds", "letters"],
        "note": "Letters of a country parson who watched the swallows of one village for "
        "forty years.",
        "copies": [
            ("good", "2400.00", {"binding": "calf", "plates": 9}),
            ("poor", "380.00", {"binding": "boards", "plates": 7, "faults": ["foxing"]}),
        ],
    },
    {
        "title": "A Vindication of the Rights of Woman",
        "responsibility": "by Mary Wollstonecraft",
        "contributors": {"Mary Wollstonecraft": "author"},
        "publisher": "J. Johnson",
        "published": 1792,
        "subjects": ["philosophy", "education"],
        "note": "With strictures on political and moral subjects.",
        "copies": [("very good", "9500.00", {"binding": "calf", "edition": 1})],
    },
    {
        "title": "Sketch of the Analytical Engine Invented by Charles Babbage",
        "responsibility": "by L. F. Menabrea; translated, with notes, by A. A. L.",
        "contributors": {"Luigi Federico Menabrea": "author", "Ada Lovelace": "translator"},
        "publisher": "Richard and John E. Taylor",
        "published": 1843,
        "subjects": ["mathematics", "engines"],
        "note": "Ada Lovelace's notes, longer than the sketch, show how the engine would "
        "compute the numbers of Bernoulli.",
        "copies": [
            (
                "fine",
                "95000.00",
                {"binding": "wrappers", "signed": True, "provenance": ["Ockham Park"]},
            )
        ],
    },
    {
        "title": "Rubáiyát of Omar Khayyám, the Astronomer-Poet of Persia",
        "responsibility": "translated into English verse",
        "contributors": {"Omar Khayyám": "author", "Edward FitzGerald": "translator"},
        "publisher": "Bernard Quaritch",
        "published": 1859,
        "subjects": ["poetry", "translations"],
        "note": "Without the name of FitzGerald, and for years in the penny box outside the door.",
        "copies": [("fair", "21000.00", {"binding": "wrappers", "provenance": ["penny box"]})],
    },
    {
        "title": "Alice's Adventures in Wonderland",
        "responsibility": "by Lewis Carroll; with forty-two illustrations by John Tenniel",
        "contributors": {"Lewis Carroll": "author", "John Tenniel": "illustrator"},
        "publisher": "Macmillan and Co.",
        "published": 1866,
        "subjects": ["children", "fantasy"],
        "note": "A rabbit with a watch, a caucus race, a very mad tea-party.",
        "copies": [
            ("good", "4200.00", {"binding": "red cloth", "plates": 42}),
            ("fine", "18500.00", {"binding": "morocco", "plates": 42, "signed": True}),
        ],
    },
    {
        "title": "The Rime of the Ancient Mariner",
        "responsibility": "by Samuel Taylor Coleridge; illustrated by Gustave Doré",
        "contributors": {"Samuel Taylor Coleridge": "author", "Gustave Doré": "illustrator"},
        "publisher": "Doré Gallery",
        "published": 1876,
        "subjects": ["poetry", "birds", "the sea"],
        "note": "The albatross, the becalmed ship and the wedding guest, on folio plates.",
        "copies": [("very good", "1350.00", {"binding": "green cloth", "plates": 38})],
    },
)


def shelve(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    Publisher, Person, Book = (
        apps.get_model("catalogue", name) for name in ("Publisher", "Person", "Book")
    )
    for name, city in PUBLISHERS.items():
        Publisher.objects.get_or_create(name=name, defaults={"city": city})
    for name, (born, died) in PEOPLE.items():
        Person.objects.get_or_create(name=name, defaults={"born": born, "died": died})
    for entry in BOOKS:
        fields = {k: v for k, v in entry.items() if k not in {"contributors", "copies"}}
        fields["publisher"] = Publisher.objects.get(name=entry["publisher"])
        book = Book.objects.create(**fields)
        for name, role in entry["contributors"].items():
            book.contributions.create(person=Person.objects.get(name=name), role=role)
        for condition, price, particulars in entry["copies"]:
            book.copies.create(
                condition=condition,
                price=price,
                particulars=particulars,
                acquired=date(2026, 3, 2),
            )


def unshelve(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    titles = [entry["title"] for entry in BOOKS]
    apps.get_model("catalogue", "Book").objects.filter(title__in=titles).delete()


class Migration(migrations.Migration):
    dependencies = (("catalogue", "0001_initial"),)
    operations = (migrations.RunPython(shelve, unshelve),)
