from django import forms

from .models import Book, BookQuerySet


class SearchForm(forms.Form):
    q = forms.CharField(label="Title, name or note", required=False, max_length=200)
    subject = forms.CharField(required=False, max_length=50)
    signed = forms.BooleanField(label="Signed copies only", required=False)

    def books(self) -> BookQuerySet:
        """The books that answer the form, none while it has errors."""
        if not self.is_valid():
            return Book.objects.none()
        books = Book.objects.order_by("title", "published", "pk")
        if text := self.cleaned_data["q"]:
            books = books.search(text)
        if subject := self.cleaned_data["subject"]:
            books = books.about(subject.lower())
        if self.cleaned_data["signed"]:
            books = books.signed()
        return books
