from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, BigIntegerRangeField, DateRangeField
from django.contrib.postgres.indexes import GinIndex
from django.db import migrations, models


def primary_key() -> models.BigAutoField:
    return models.BigAutoField(
        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
    )


class Migration(migrations.Migration):
    initial = True

    operations = (
        migrations.CreateModel(
            name="Publisher",
            fields=[
                ("id", primary_key()),
                ("name", models.CharField(max_length=200, unique=True)),
                ("city", models.CharField(max_length=100)),
            ],
            options={"ordering": ("name",)},
        ),
        migrations.CreateModel(
            name="Person",
            fields=[
                ("id", primary_key()),
                ("name", models.CharField(max_length=200, unique=True)),
                ("born", models.PositiveSmallIntegerField(null=True, blank=True)),
                ("died", models.PositiveSmallIntegerField(null=True, blank=True)),
            ],
            options={
                "ordering": ("name",),
                "verbose_name_plural": "people",
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(died__gte=models.F("born")),
                        name="person_lived_forwards",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Book",
            fields=[
                ("id", primary_key()),
                ("title", models.CharField(max_length=300)),
                (
                    "responsibility",
                    models.CharField(
                        "statement of responsibility",
                        max_length=300,
                        help_text=(
                            "As on the title page: by Lewis Carroll; illustrated by John Tenniel"
                        ),
                    ),
                ),
                (
                    "publisher",
                    models.ForeignKey("catalogue.publisher", models.PROTECT, related_name="books"),
                ),
                ("published", models.PositiveSmallIntegerField("year of publication")),
                ("subjects", ArrayField(models.CharField(max_length=50), default=list, blank=True)),
                ("note", models.TextField(blank=True)),
            ],
            options={
                "ordering": ("title", "published"),
                "indexes": [GinIndex(fields=["subjects"], name="book_subjects")],
            },
        ),
        migrations.CreateModel(
            name="Contribution",
            fields=[
                ("id", primary_key()),
                (
                    "book",
                    models.ForeignKey(
                        "catalogue.book", models.CASCADE, related_name="contributions"
                    ),
                ),
                (
                    "person",
                    models.ForeignKey(
                        "catalogue.person", models.PROTECT, related_name="contributions"
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        max_length=20,
                        choices=[
                            ("author", "Author"),
                            ("editor", "Editor"),
                            ("illustrator", "Illustrator"),
                            ("translator", "Translator"),
                        ],
                        default="author",
                    ),
                ),
            ],
            options={
                "ordering": ("pk",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("book", "person", "role"), name="contribution_named_once"
                    ),
                ],
            },
        ),
        migrations.AddField(
            "book",
            "contributors",
            models.ManyToManyField(
                "catalogue.person", through="catalogue.Contribution", related_name="books"
            ),
        ),
        migrations.CreateModel(
            name="Copy",
            fields=[
                ("id", primary_key()),
                (
                    "book",
                    models.ForeignKey("catalogue.book", models.CASCADE, related_name="copies"),
                ),
                (
                    "condition",
                    models.CharField(
                        max_length=20,
                        choices=[
                            ("fine", "Fine"),
                            ("very good", "Very Good"),
                            ("good", "Good"),
                            ("fair", "Fair"),
                            ("poor", "Poor"),
                        ],
                    ),
                ),
                (
                    "particulars",
                    models.JSONField(
                        default=dict,
                        blank=True,
                        help_text='Such as {"binding": "calf", "signed": true}',
                    ),
                ),
                ("price", models.DecimalField(max_digits=9, decimal_places=2)),
                ("acquired", models.DateField()),
                ("sold", models.DateField(null=True, blank=True)),
            ],
            options={
                "verbose_name_plural": "copies",
                "indexes": [
                    GinIndex(fields=["particulars"], name="copy_particulars"),
                    models.Index(
                        fields=["book", "price"],
                        condition=models.Q(sold=None),
                        name="copy_for_sale",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(price__gt=0), name="copy_has_a_price"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(sold__gte=models.F("acquired")),
                        name="copy_acquired_before_sold",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Hold",
            fields=[
                ("id", primary_key()),
                (
                    "copy",
                    models.ForeignKey("catalogue.copy", models.CASCADE, related_name="holds"),
                ),
                ("customer", models.CharField(max_length=200)),
                ("period", DateRangeField()),
            ],
            options={
                "ordering": ("period",),
                "constraints": [
                    ExclusionConstraint(
                        name="hold_for_one_customer",
                        expressions=(
                            (
                                models.Func(
                                    "copy",
                                    "copy",
                                    models.Value("[]"),
                                    function="int8range",
                                    output_field=BigIntegerRangeField(),
                                ),
                                "&&",
                            ),
                            ("period", "&&"),
                        ),
                    ),
                ],
            },
        ),
    )
