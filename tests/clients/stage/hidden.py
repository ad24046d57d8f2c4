"""The search for parts of a key, in each way a language may write bytes down."""

from harness.broker import KEY

PART = 6  # bytes: shorter ones are there by chance
SHOWN = (3, 4)  # of its beginning and its end a key may show so much
FORMS = {
    "as it is": lambda part: part.decode(),
    "in hex": lambda part: part.hex(),
    "in hex with spaces": lambda part: part.hex(" "),
    "in hex for a compiler": lambda part: ", ".join(f"0x{byte:02x}" for byte in part),
    "in numbers": lambda part: " ".join(map(str, part)),
    "in numbers with commas": lambda part: ", ".join(map(str, part)),
    "in numbers without spaces": lambda part: ",".join(map(str, part)),
}


def parts(keys, text):
    """-> what of the keys the text has: a list of words without the parts themselves."""
    found = ["something that looks like a key"] if KEY.search(text) else []
    lower = text.lower()
    for key in keys:
        middle = key[SHOWN[0]:-SHOWN[1]].encode()
        for name, form in FORMS.items():
            where = text if name == "as it is" else lower
            if any(form(middle[i:i + PART]) in where for i in range(len(middle) - PART + 1)):
                found.append(f"a part of {key[:3]}…{key[-4:]} {name}")
    return found
