"""Functions of a small shop, for suites that call real functions (`recipes.shop_tasks`, the suite `shop`).

The state: {"stock": {item: {"price": euros, "pieces": there}}, "money": {customer: euros}, "orders": [{"order": number,
"customer": name, "item": name, "pieces": ordered, "paid": euros}]}. Nothing but the standard library is imported,
because the file is run in the sandbox.
"""

from typing import Any

State = dict[str, Any]


def find_items(state: State, word: str) -> list[Any]:
    """List the items whose name holds a word, each with its price in euros for one piece and the pieces in stock."""
    return [{"item": item, **row} for item, row in state["stock"].items() if word.lower() in item.lower()]


def balance(state: State, customer: str) -> int:
    """Give the euros that a customer has left to spend."""
    return int(state["money"][_customer(state, customer)])


def list_customers(state: State) -> list[Any]:
    """List the names of all customers."""
    return list(state["money"])


def list_orders(state: State, customer: str) -> list[Any]:
    """List a customer's orders, each with its number, item, pieces and the euros that were paid for it."""
    name = _customer(state, customer)
    return [row for row in state["orders"] if row["customer"] == name]


def place_order(state: State, customer: str, item: str, pieces: int) -> dict[str, Any]:
    """Order pieces of an item for a customer, who pays at once. Gives the order with its number."""
    name = _customer(state, customer)
    if item not in state["stock"]:
        raise ValueError(f"there is no item {item!r}; find_items shows the names")
    row = state["stock"][item]
    if not 1 <= pieces <= row["pieces"]:
        raise ValueError(f"{row['pieces']} pieces of {item} are in stock")
    paid = pieces * row["price"]
    if paid > state["money"][name]:
        raise ValueError(f"{name} has {state['money'][name]} euros, and this costs {paid}")
    row["pieces"] -= pieces
    state["money"][name] -= paid
    number = 1 + max((one["order"] for one in state["orders"]), default=0)
    made = {"order": number, "customer": name, "item": item, "pieces": pieces, "paid": paid}
    state["orders"].append(made)
    return made


def cancel_order(state: State, order: int) -> int:
    """Cancel an order: its pieces go back into stock, and the customer gets back what was paid. Gives these euros."""
    found = [one for one in state["orders"] if one["order"] == order]
    if not found:
        raise ValueError(f"there is no order {order}")
    row = found[0]
    state["orders"].remove(row)
    state["stock"][row["item"]]["pieces"] += row["pieces"]
    state["money"][row["customer"]] += row["paid"]
    return int(row["paid"])


def transfer(state: State, sender: str, receiver: str, euros: int) -> None:
    """Move euros from one customer to another."""
    a, b = _customer(state, sender), _customer(state, receiver)
    if not 1 <= euros <= state["money"][a]:
        raise ValueError(f"{a} has {state['money'][a]} euros")
    state["money"][a] -= euros
    state["money"][b] += euros


def _customer(state: State, name: str) -> str:
    if name not in state["money"]:
        raise ValueError(f"there is no customer {name!r}; list_customers shows the names")
    return name
