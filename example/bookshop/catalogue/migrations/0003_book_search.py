from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("catalogue", "0002_opening_stock"),)
    operations = (
        migrations.AddField(
            "book",
            "search",
            models.GeneratedField(
                expression=(
                    SearchVector("title", config="english", weight="A")
                    + SearchVector("responsibility", config="english", weight="B")
                    + SearchVector("note", config="english", weight="D")
                ),
                output_field=SearchVectorField(),
                db_persist=True,
            ),
        ),
        migrations.AddIndex("book", GinIndex(fields=["search"], name="book_search")),
    )
