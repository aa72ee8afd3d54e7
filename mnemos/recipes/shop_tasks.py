"""The items of the suite `shop`: goals that need several calls of the functions in `recipes.shop`, in turn.

    python -m mnemos.recipes.shop_tasks      writes recipes/suites/shop.jsonl

Answers and final states are what the right calls give, so they are right by making. Every answer is a number, and no
number that the request names.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any

from mnemos.core.files import write_jsonl
from mnemos.measure.suite import BUILT_IN
from mnemos.recipes import shop
from mnemos.recipes.worlds.seed import chance, listed

FILE = BUILT_IN / "shop.jsonl"
ITEMS = 72
COLOURS = listed("red, green, blue, white, black")
THINGS = listed("lamp, chair, kettle, blanket, mirror")
NAMES = listed("Ann, Bob, Carla, David, Emma, Farid")

State = dict[str, Any]
Call = tuple[str, dict[str, Any]]
Made = tuple[str, list[Call], int]
"""A request, the right calls, and the answer."""


def state_of(draw: Random) -> State:
    """A shop of ten items, four customers and a few orders that they paid."""
    names = draw.sample(NAMES, 4)
    stock = {}
    for thing in draw.sample(THINGS, 3):
        prices = draw.sample(range(11, 60), 3)
        for colour, price in zip(draw.sample(COLOURS, 3), prices, strict=True):
            stock[f"{colour} {thing}"] = {"price": price, "pieces": draw.randrange(6, 12)}
    money = dict(zip(names, draw.sample(range(500, 900), 4), strict=True))
    state: State = {"stock": stock, "money": money, "orders": []}
    for name in names[:3]:
        for item in draw.sample(sorted(stock), 2):
            shop.place_order(state, name, item, draw.randrange(1, 3))
    return state


def cheapest(state: State, draw: Random) -> Made:
    """Find, compare, order, look what is left."""
    thing, name = draw.choice(sorted({item.split()[1] for item in state["stock"]})), draw.choice(sorted(state["money"]))
    items = shop.find_items(state, thing)
    item, pieces = min(items, key=lambda one: one["price"]), draw.randrange(2, 4)
    order = ("place_order", {"customer": name, "item": item["item"], "pieces": pieces})
    left = state["money"][name] - pieces * item["price"]
    words = f"Order {pieces} pieces of the cheapest {thing} for {name}, in one order. How many euros has {name} left?"
    return words, [("find_items", {"word": thing}), order, ("balance", {"customer": name})], left


def cancelled(state: State, draw: Random) -> Made:
    """Look orders up, choose one, cancel it."""
    name = draw.choice(sorted({one["customer"] for one in state["orders"]}))
    row = max(shop.list_orders(state, name), key=lambda one: one["paid"])
    words = f"Cancel the order of {name} for which most was paid. How many euros does {name} have then?"
    calls = [("list_orders", {"customer": name}), ("cancel_order", {"order": row["order"]})]
    return words, [*calls, ("balance", {"customer": name})], state["money"][name] + row["paid"]


def evened(state: State, draw: Random) -> Made:
    """Compare two balances, move half of the difference."""
    one, other = draw.sample(sorted(state["money"]), 2)
    if (state["money"][one] + state["money"][other]) % 2:
        state["money"][one] += 1
    rich, poor = sorted((one, other), key=lambda name: -state["money"][name])
    euros = (state["money"][rich] - state["money"][poor]) // 2
    words = f"Move euros between {one} and {other} so that both have the same. How many euros do you move?"
    calls: list[Call] = [("balance", {"customer": name}) for name in (one, other)]
    return words, [*calls, ("transfer", {"sender": rich, "receiver": poor, "euros": euros})], euros


def richest(state: State, draw: Random) -> Made:
    """Ask about everybody, change nothing."""
    calls: list[Call] = [("list_customers", {}), *[("balance", {"customer": name}) for name in state["money"]]]
    return "How many euros does the customer have who has most? Change nothing.", calls, max(state["money"].values())


def all_of_it(state: State, draw: Random) -> Made:
    """Find how many there are, order all of them."""
    item = draw.choice(sorted(state["stock"]))
    name = max(state["money"], key=lambda one: state["money"][one])
    row = state["stock"][item]
    paid = row["price"] * row["pieces"]
    state["money"][name] += paid
    words = f"Order all pieces of the {item} that are in stock for {name}, in one order. How many euros are paid?"
    order = ("place_order", {"customer": name, "item": item, "pieces": row["pieces"]})
    return words, [("find_items", {"word": item}), order], paid


def swapped(state: State, draw: Random) -> Made:
    """Cancel one order, place another."""
    row = draw.choice(state["orders"])
    name = row["customer"]
    others = [
        item for item in state["stock"] if item != row["item"] and state["stock"][item]["pieces"] >= row["pieces"]
    ]
    item = draw.choice(sorted(others))
    state["money"][name] += 200
    words = (
        f"{name} wants the {item} in place of the {row['item']} of order {row['order']}: cancel that order and order "
        f"as many pieces of the {item}. How many euros are paid for the new order?"
    )
    calls: list[Call] = [("list_orders", {"customer": name}), ("cancel_order", {"order": row["order"]})]
    order = ("place_order", {"customer": name, "item": item, "pieces": row["pieces"]})
    return words, [*calls, order], row["pieces"] * state["stock"][item]["price"]


GOALS: tuple[Callable[[State, Random], Made], ...] = (cheapest, cancelled, evened, richest, all_of_it, swapped)


def solved(state: State, calls: list[Call]) -> State:
    """The state behind the right calls."""
    left = copy.deepcopy(state)
    for name, arguments in calls:
        getattr(shop, name)(left, **arguments)
    return left


def tasks() -> Iterator[tuple[dict[str, Any], list[Call]]]:
    """Each item with its right calls."""
    for number in range(ITEMS):
        goal = GOALS[number % len(GOALS)]
        state, request, calls, answer = next(filter(_clear, (_made(goal, number, again) for again in count())))
        row = {"id": f"{goal.__name__}-{number}", "prompt": request, "category": goal.__name__, "answer": str(answer)}
        yield {**row, "state": state, "end_state": solved(state, calls)}, calls


def _made(goal: Callable[[State, Random], Made], number: int, again: int) -> tuple[State, str, list[Call], int]:
    draw = chance("shop", number, again)
    state = state_of(draw)
    return (state, *goal(state, draw))


def _clear(made: tuple[State, str, list[Call], int]) -> bool:
    """Whether there is one right way: no two orders that cost the same, nothing to be moved that is nothing, and no
    answer that can be read off the request."""
    state, request, _, answer = made
    paid = [(one["customer"], one["paid"]) for one in state["orders"]]
    return len(set(paid)) == len(paid) and answer > 0 and str(answer) not in request


if __name__ == "__main__":
    write_jsonl(FILE, [row for row, _ in tasks()])
