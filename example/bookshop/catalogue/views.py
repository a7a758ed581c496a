from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from .forms import SearchForm


def search(request: HttpRequest) -> HttpResponse:
    form = SearchForm(request.GET)
    books = form.books().priced().select_related("publisher").defer("search")
    page = Paginator(books, 20).get_page(request.GET.get("page"))
    return render(request, "catalogue/search.html", {"form": form, "page": page})
