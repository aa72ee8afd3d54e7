"""Questions over the Chinook database with their queries, made by templates from its own values.

Every template has several wordings, and each of its values is asked in one of them, drawn by seed. A question whose
query gives no row, or whose order hangs on a tie, is left out: its gold answer would be met by chance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mnemos.rewards.sandbox.queries import query
from mnemos.stream.task import Row

MOST_VALUES = 24
"""Values of one template that are asked for."""


@dataclass(frozen=True)
class Template:
    """wordings: with places {0}, {1}. sql: with the same places inside quotes. values: a query that lists them. hint:
    what a person who knows the schema would add. ties: a query with the same places that gives a row where the
    question would have more than one right answer."""

    name: str
    wordings: tuple[str, ...]
    sql: str
    values: str
    hint: str
    ties: str = ""


GENRE = "Track.GenreId refers to Genre, whose Name is the genre"
ALBUM = "Album.ArtistId refers to Artist; Track.AlbumId refers to Album"
INVOICE = "Invoice.Total is the amount of one invoice; Invoice.CustomerId refers to Customer"
_GENRES = "select Name from Genre where GenreId in (select GenreId from Track) order by 1"
_ARTISTS = (
    "select a.Name from Artist a join Album b on b.ArtistId = a.ArtistId group by 1 having count(*) > 1 order by 1"
)
_CUSTOMERS = "select FirstName, LastName from Customer order by CustomerId"
_COUNTRIES = "select distinct Country from Customer order by 1"
_EMPLOYEES = (
    "select FirstName, LastName from Employee where EmployeeId in (select SupportRepId from Customer) order by 1"
)
_ALBUMS = (
    "select Title from Album group by Title having count(*) = 1 and Title in (select Title from Album a join Track t "
    "on t.AlbumId = a.AlbumId group by Title having count(*) between 3 and 30) order by Title"
)
_YEARS = "select distinct strftime('%Y', InvoiceDate) from Invoice order by 1"

TEMPLATES: Sequence[Template] = (
    Template(
        "tracks-of-genre",
        ("How many {0} tracks are there?", "Count the tracks whose genre is {0}.", "What is the number of {0} songs?"),
        "SELECT COUNT(*) FROM Track t JOIN Genre g ON t.GenreId = g.GenreId WHERE g.Name = '{0}'",
        _GENRES,
        GENRE,
    ),
    Template(
        "length-of-genre",
        ("What is the average length of {0} tracks in milliseconds?", "How long is a {0} track on average, in ms?"),
        "SELECT AVG(t.Milliseconds) FROM Track t JOIN Genre g ON t.GenreId = g.GenreId WHERE g.Name = '{0}'",
        _GENRES,
        f"{GENRE}; Track.Milliseconds is its length",
    ),
    Template(
        "longest-of-genre",
        ("What is the name of the longest {0} track?", "Name the {0} song that lasts longest."),
        "SELECT t.Name FROM Track t JOIN Genre g ON t.GenreId = g.GenreId WHERE g.Name = '{0}' "
        "ORDER BY t.Milliseconds DESC LIMIT 1",
        _GENRES,
        f"{GENRE}; order by Track.Milliseconds",
        ties="SELECT 1 FROM Track t JOIN Genre g ON t.GenreId = g.GenreId WHERE g.Name = '{0}' GROUP BY t.Milliseconds "
        "HAVING COUNT(*) > 1 AND t.Milliseconds = (SELECT MAX(Milliseconds) FROM Track x WHERE x.GenreId = t.GenreId)",
    ),
    Template(
        "sold-of-genre",
        ("How many copies of {0} tracks were sold?", "What quantity of {0} tracks was bought in total?"),
        "SELECT SUM(l.Quantity) FROM InvoiceLine l JOIN Track t ON l.TrackId = t.TrackId "
        "JOIN Genre g ON t.GenreId = g.GenreId WHERE g.Name = '{0}'",
        _GENRES,
        f"InvoiceLine.TrackId refers to Track, InvoiceLine.Quantity is how many were sold; {GENRE}",
    ),
    Template(
        "albums-of-artist",
        ("List the titles of all albums by {0}.", "Which albums did {0} make? Give their titles.", "Albums of {0}?"),
        "SELECT b.Title FROM Album b JOIN Artist a ON b.ArtistId = a.ArtistId WHERE a.Name = '{0}'",
        _ARTISTS,
        ALBUM,
    ),
    Template(
        "number-of-albums",
        ("How many albums does {0} have?", "Count the albums of the artist {0}."),
        "SELECT COUNT(*) FROM Album b JOIN Artist a ON b.ArtistId = a.ArtistId WHERE a.Name = '{0}'",
        _ARTISTS,
        ALBUM,
    ),
    Template(
        "tracks-of-artist",
        ("How many tracks are by {0}?", "Count all tracks on albums of {0}."),
        "SELECT COUNT(*) FROM Track t JOIN Album b ON t.AlbumId = b.AlbumId JOIN Artist a ON b.ArtistId = a.ArtistId "
        "WHERE a.Name = '{0}'",
        _ARTISTS,
        ALBUM,
    ),
    Template(
        "tracks-of-album",
        ("List the names of the tracks on the album {0}.", "Which songs are on {0}?"),
        "SELECT t.Name FROM Track t JOIN Album b ON t.AlbumId = b.AlbumId WHERE b.Title = '{0}'",
        _ALBUMS,
        ALBUM,
    ),
    Template(
        "minutes-of-album",
        ("How many milliseconds does the album {0} last?", "What is the total length of {0} in milliseconds?"),
        "SELECT SUM(t.Milliseconds) FROM Track t JOIN Album b ON t.AlbumId = b.AlbumId WHERE b.Title = '{0}'",
        _ALBUMS,
        f"{ALBUM}; add up Track.Milliseconds",
    ),
    Template(
        "artist-of-album",
        ("Who made the album {0}?", "Name the artist of {0}."),
        "SELECT a.Name FROM Artist a JOIN Album b ON b.ArtistId = a.ArtistId WHERE b.Title = '{0}'",
        _ALBUMS,
        ALBUM,
    ),
    Template(
        "customers-of-country",
        ("How many customers live in {0}?", "Count the customers from {0}."),
        "SELECT COUNT(*) FROM Customer WHERE Country = '{0}'",
        _COUNTRIES,
        "Customer.Country is where a customer lives",
    ),
    Template(
        "names-of-country",
        ("List first and last names of the customers in {0}.", "Who are our customers from {0}? First and last name."),
        "SELECT FirstName, LastName FROM Customer WHERE Country = '{0}'",
        _COUNTRIES,
        "Customer has FirstName, LastName and Country",
    ),
    Template(
        "sales-to-country",
        ("What is the total of all invoices billed to {0}?", "How much did we sell to {0} altogether?"),
        "SELECT SUM(Total) FROM Invoice WHERE BillingCountry = '{0}'",
        _COUNTRIES,
        "Invoice.BillingCountry is where an invoice went; add up Invoice.Total",
    ),
    Template(
        "spent-by-customer",
        ("How much did {0} {1} spend in total?", "What is the sum of the invoices of {0} {1}?"),
        "SELECT SUM(i.Total) FROM Invoice i JOIN Customer c ON i.CustomerId = c.CustomerId "
        "WHERE c.FirstName = '{0}' AND c.LastName = '{1}'",
        _CUSTOMERS,
        INVOICE,
    ),
    Template(
        "invoices-of-customer",
        ("How many invoices does {0} {1} have?", "Count the invoices of the customer {0} {1}."),
        "SELECT COUNT(*) FROM Invoice i JOIN Customer c ON i.CustomerId = c.CustomerId "
        "WHERE c.FirstName = '{0}' AND c.LastName = '{1}'",
        _CUSTOMERS,
        INVOICE,
    ),
    Template(
        "support-of-customer",
        ("Who supports {0} {1}? Give the employee's first and last name.", "Which employee looks after {0} {1}?"),
        "SELECT e.FirstName, e.LastName FROM Employee e JOIN Customer c ON c.SupportRepId = e.EmployeeId "
        "WHERE c.FirstName = '{0}' AND c.LastName = '{1}'",
        _CUSTOMERS,
        "Customer.SupportRepId refers to Employee.EmployeeId; give FirstName and LastName",
    ),
    Template(
        "largest-invoices",
        (
            "List the ids of the invoices of {0} {1}, newest first.",
            "Invoice ids of {0} {1} from the latest to the first?",
        ),
        "SELECT i.InvoiceId FROM Invoice i JOIN Customer c ON i.CustomerId = c.CustomerId "
        "WHERE c.FirstName = '{0}' AND c.LastName = '{1}' ORDER BY i.InvoiceDate DESC",
        _CUSTOMERS,
        f"{INVOICE}; order by Invoice.InvoiceDate, descending",
        ties="SELECT 1 FROM Invoice i JOIN Customer c ON i.CustomerId = c.CustomerId WHERE c.FirstName = '{0}' AND "
        "c.LastName = '{1}' GROUP BY i.InvoiceDate HAVING COUNT(*) > 1",
    ),
    Template(
        "customers-of-employee",
        ("How many customers does {0} {1} support?", "Count the customers looked after by {0} {1}."),
        "SELECT COUNT(*) FROM Customer c JOIN Employee e ON c.SupportRepId = e.EmployeeId "
        "WHERE e.FirstName = '{0}' AND e.LastName = '{1}'",
        _EMPLOYEES,
        "Customer.SupportRepId refers to Employee.EmployeeId",
    ),
    Template(
        "invoices-of-year",
        ("How many invoices were written in {0}?", "Count the invoices of the year {0}."),
        "SELECT COUNT(*) FROM Invoice WHERE strftime('%Y', InvoiceDate) = '{0}'",
        _YEARS,
        "Invoice.InvoiceDate is a text; strftime('%Y', InvoiceDate) is its year",
    ),
    Template(
        "sales-of-year",
        ("What was the total of all invoices in {0}?", "How much was sold in {0}?"),
        "SELECT SUM(Total) FROM Invoice WHERE strftime('%Y', InvoiceDate) = '{0}'",
        _YEARS,
        "Invoice.InvoiceDate is a text; strftime('%Y', InvoiceDate) is its year; add up Invoice.Total",
    ),
    Template(
        "tracks-of-playlist",
        ("How many tracks are in the playlist {0}?", "Count the tracks of the playlist called {0}."),
        "SELECT COUNT(*) FROM PlaylistTrack x JOIN Playlist p ON x.PlaylistId = p.PlaylistId WHERE p.Name = '{0}'",
        "select Name from Playlist group by Name having count(*) = 1 and Name in (select Name from Playlist p join "
        "PlaylistTrack x on x.PlaylistId = p.PlaylistId) order by 1",
        "PlaylistTrack joins Playlist and Track by their ids",
    ),
    Template(
        "tracks-of-composer",
        ("List the names of the tracks composed by {0}.", "Which tracks did {0} compose?"),
        "SELECT Name FROM Track WHERE Composer = '{0}'",
        "select Composer from Track where Composer is not null group by 1 having count(*) between 2 and 12 order by 1",
        "Track.Composer is a text",
    ),
)


def rows(database: str, seed: int, instruction: str) -> list[Row]:
    """Every question, by template and value; wordings and values by seed."""
    out = []
    for template in TEMPLATES:
        draw = random.Random(f"{seed}/{template.name}")
        values = [tuple(map(str, value)) for value in query(database, template.values)]
        for value in sorted(draw.sample(values, min(len(values), MOST_VALUES))):
            question = draw.choice(template.wordings).format(*value)
            quoted = [one.replace("'", "''") for one in value]
            gold = template.sql.format(*quoted)
            found = query(database, gold)
            if not found or (template.ties and query(database, template.ties.format(*quoted))):
                continue
            name = f"{template.name}:{' '.join(value)}"
            text = f"Question: {question}\nSQL:"
            out.append(Row(name, text, question, gold, instruction, gold, template.hint))
    return out


def schema(database: str) -> str:
    """Tables and columns, one line a table: what a prompt can hold."""
    tables = query(database, "select name from sqlite_master where type = 'table' order by name")
    lines = []
    for (table,) in tables:
        # The authoriser lets no PRAGMA through; this table-valued form reads the same.
        columns = _columns(database, table)
        lines.append(f"{table}({', '.join(columns)})")
    return "\n".join(lines)


def _columns(database: str, table: str) -> list[str]:
    import sqlite3

    connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
    try:
        return [row[1] for row in connection.execute(f'pragma table_info("{table}")')]
    finally:
        connection.close()
