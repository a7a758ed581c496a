from django.contrib import admin

from .models import Book, Contribution, Copy, Hold, Person, Publisher


class ContributionInline(admin.TabularInline):
    model = Contribution
    autocomplete_fields = ("person",)
    extra = 0


class CopyInline(admin.TabularInline):
    model = Copy
    extra = 0


class HoldInline(admin.TabularInline):
    model = Hold
    extra = 0


@admin.register(Publisher)
class PublisherAdmin(admin.ModelAdmin):
    list_display = ("name", "city")
    search_fields = ("name", "city")


@admin.register(Person)
class PersonAdmin(admin.ModelAdmin):
    list_display = ("name", "born", "died")
    search_fields = ("name",)


@admin.register(Book)
class BookAdmin(admin.ModelAdmin):
    list_display = ("title", "responsibility", "publisher", "published")
    list_select_related = ("publisher",)
    search_fields = ("title", "responsibility")
    autocomplete_fields = ("publisher",)
    inlines = (ContributionInline, CopyInline)


@admin.register(Copy)
class CopyAdmin(admin.ModelAdmin):
    list_display = ("book", "condition", "price", "acquired", "sold")
    list_filter = ("condition", "sold")
    list_select_related = ("book",)
    search_fields = ("book__title",)
    autocomplete_fields = ("book",)
    date_hierarchy = "acquired"
    inlines = (HoldInline,)
