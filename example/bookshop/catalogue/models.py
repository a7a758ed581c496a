"""The catalogue: books, the people who made them, and the copies on the shelves."""

from __future__ import annotations

from typing import Self

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import (
    ArrayField,
    BigIntegerRangeField,
    DateRangeField,
    RangeOperators,
)
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import (
    SearchQuery,
    SearchRank,
    SearchVector,
    SearchVectorField,
)
from django.db import models
from django.db.models import Count, Exists, F, Func, Min, OuterRef, Q, Value


class Publisher(models.Model):
    name = models.CharField(max_length=200, unique=True)
    city = models.CharField(max_length=100)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return f"{self.city}: {self.name}"


class Person(models.Model):
    name = models.CharField(max_length=200, unique=True)
    born = models.PositiveSmallIntegerField(null=True, blank=True)
    died = models.PositiveSmallIntegerField(null=True, blank=True)

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "people"
        constraints = (
            models.CheckConstraint(condition=Q(died__gte=F("born")), name="person_lived_forwards"),
        )

    def __str__(self) -> str:
        return self.name


class BookQuerySet(models.QuerySet["Book"]):
    def search(self, text: str) -> Self:
        """Best match first; ``text`` may say ``"white whale" or moby -film``."""
        query = SearchQuery(text, config="english", search_type="websearch")
        matches = self.filter(search=query).annotate(rank=SearchRank("search", query))
        return matches.order_by("-rank", "title", "pk")

    def about(self, *subjects: str) -> Self:
        """Books that have every one of these subjects."""
        return self.filter(subjects__contains=subjects)

    def signed(self) -> Self:
        """Books of which a signed copy is for sale."""
        signed = Copy.objects.for_sale().filter(particulars__contains={"signed": True})
        return self.filter(Exists(signed.filter(book=OuterRef("pk"))))

    def priced(self) -> Self:
        """With the number of copies for sale, and the price of the cheapest."""
        for_sale = Q(copies__sold=None)
        return self.annotate(
            for_sale=Count("copies", filter=for_sale),
            price_from=Min("copies__price", filter=for_sale),
        )


class Book(models.Model):
    title = models.CharField(max_length=300)
    responsibility = models.CharField(
        "statement of responsibility",
        max_length=300,
        help_text="As on the title page: by Lewis Carroll; illustrated by John Tenniel",
    )
    contributors = models.ManyToManyField(Person, through="Contribution", related_name="books")
    publisher = models.ForeignKey(Publisher, on_delete=models.PROTECT, related_name="books")
    published = models.PositiveSmallIntegerField("year of publication")
    subjects = ArrayField(models.CharField(max_length=50), default=list, blank=True)
    note = models.TextField(blank=True)
    search = models.GeneratedField(
        expression=(
            SearchVector("title", config="english", weight="A")
            + SearchVector("responsibility", config="english", weight="B")
            + SearchVector("note", config="english", weight="D")
        ),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    objects = BookQuerySet.as_manager()

    class Meta:
        ordering = ("title", "published")
        indexes = (
            GinIndex(fields=("subjects",), name="book_subjects"),
            GinIndex(fields=("search",), name="book_search"),
        )

    def __str__(self) -> str:
        return f"{self.title} ({self.published})"


class Contribution(models.Model):
    """Who did what for a book."""

    class Role(models.TextChoices):
        AUTHOR = "author"
        EDITOR = "editor"
        ILLUSTRATOR = "illustrator"
        TRANSLATOR = "translator"

    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="contributions")
    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="contributions")
    role = models.CharField(max_length=20, choices=Role, default=Role.AUTHOR)

    class Meta:
        ordering = ("pk",)
        constraints = (
            models.UniqueConstraint(
                fields=("book", "person", "role"), name="contribution_named_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.person}, {self.get_role_display().lower()} of {self.book}"


class CopyQuerySet(models.QuerySet["Copy"]):
    def for_sale(self) -> Self:
        return self.filter(sold=None)


class Copy(models.Model):
    """One copy of a book, as it stands on the shelf or left the shop."""

    class Condition(models.TextChoices):
        FINE = "fine"
        VERY_GOOD = "very good"
        GOOD = "good"
        FAIR = "fair"
        POOR = "poor"

    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="copies")
    condition = models.CharField(max_length=20, choices=Condition)
    particulars = models.JSONField(
        default=dict, blank=True, help_text='Such as {"binding": "calf", "signed": true}'
    )
    price = models.DecimalField(max_digits=9, decimal_places=2)
    acquired = models.DateField()
    sold = models.DateField(null=True, blank=True)

    objects = CopyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "copies"
        indexes = (
            GinIndex(fields=("particulars",), name="copy_particulars"),
            models.Index(fields=("book", "price"), condition=Q(sold=None), name="copy_for_sale"),
        )
        constraints = (
            models.CheckConstraint(condition=Q(price__gt=0), name="copy_has_a_price"),
            models.CheckConstraint(
                condition=Q(sold__gte=F("acquired")), name="copy_acquired_before_sold"
            ),
        )

    def __str__(self) -> str:
        return f"{self.book}, {self.get_condition_display().lower()}"


class Hold(models.Model):
    """A copy kept aside for a customer, and for one customer at a time."""

    copy = models.ForeignKey(Copy, on_delete=models.CASCADE, related_name="holds")
    customer = models.CharField(max_length=200)
    period = DateRangeField()

    class Meta:
        ordering = ("period",)
        constraints = (
            ExclusionConstraint(
                name="hold_for_one_customer",
                # "The same copy", said with ranges: equality would need btree_gist.
                expressions=(
                    (
                        Func(
                            "copy",
                            "copy",
                            Value("[]"),
                            function="int8range",
                            output_field=BigIntegerRangeField(),
                        ),
                        RangeOperators.OVERLAPS,
                    ),
                    ("period", RangeOperators.OVERLAPS),
                ),
            ),
        )

    def __str__(self) -> str:
        return f"{self.copy} for {self.customer}"
