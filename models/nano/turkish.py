"""Turkish letters, vowel harmony, suffixes and number words."""

from __future__ import annotations

from dataclasses import dataclass

BACK, FRONT = "aıou", "eiöü"
VOWELS = BACK + FRONT
VOICELESS = "fstkçşhp"
HIGH = {"a": "ı", "ı": "ı", "o": "u", "u": "u", "e": "i", "i": "i", "ö": "ü", "ü": "ü"}

ONES = ("sıfır", "bir", "iki", "üç", "dört", "beş", "altı", "yedi", "sekiz", "dokuz")
TENS = ("", "on", "yirmi", "otuz", "kırk", "elli", "altmış", "yetmiş", "seksen", "doksan")


def lower(text: str) -> str:
    """Lower-case the Turkish way: I is the capital of ı, İ that of i."""
    return text.replace("I", "ı").replace("İ", "i").lower()


def upper(text: str) -> str:
    """Upper-case the Turkish way."""
    return text.replace("i", "İ").replace("ı", "I").upper()


def capitalise(text: str) -> str:
    """Upper-case the first letter and leave the rest alone."""
    return upper(text[:1]) + text[1:]


def number(n: int) -> str:
    """Say a number from 0 to 199 in words."""
    if not 0 <= n <= 199:
        raise ValueError(f"number words are known from 0 to 199, not for {n}")
    if n == 0:
        return ONES[0]
    hundred, rest = divmod(n, 100)
    words = ("yüz" if hundred else "", TENS[rest // 10], ONES[rest % 10] if rest % 10 else "")
    return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Noun:
    """A noun, with what its spelling does not show.

    Attributes:
        word: The bare form.
        stem: The form before a suffix that begins with a vowel (kitap: kitab, burun: burn).
        front: Takes front suffixes after a back vowel (saat: saati, not saatı).
    """

    word: str
    stem: str
    front: bool = False

    def vowel(self) -> str:
        """Return the last vowel of the bare form, as vowel harmony treats it."""
        last = next(letter for letter in reversed(self.word) if letter in VOWELS)
        return {"a": "e", "ı": "i", "o": "ö", "u": "ü"}.get(last, last) if self.front else last

    def low(self) -> str:
        """Return the vowel of a two-way suffix: a or e."""
        return "a" if self.vowel() in BACK else "e"

    def high(self) -> str:
        """Return the vowel of a four-way suffix: ı, i, u or ü."""
        return HIGH[self.vowel()]

    def dental(self) -> str:
        """Return the consonant of -de and -den: t after a voiceless one."""
        return "t" if self.word[-1] in VOICELESS else "d"

    def ends_in_vowel(self) -> bool:
        """Return whether the bare form ends in a vowel, so that a suffix needs a buffer letter."""
        return self.word[-1] in VOWELS


# Each rule gives (what precedes, suffix), so that a tokenizer can learn the seam.
def plural(noun: Noun) -> tuple[str, str]:
    """Form the plural: evler, okullar."""
    return noun.word, f"l{noun.low()}r"


def locative(noun: Noun) -> tuple[str, str]:
    """Form the locative: evde, sokakta."""
    return noun.word, noun.dental() + noun.low()


def ablative(noun: Noun) -> tuple[str, str]:
    """Form the ablative: okuldan, kitaptan."""
    return noun.word, noun.dental() + noun.low() + "n"


def accusative(noun: Noun) -> tuple[str, str]:
    """Form the accusative: kitabı, arabayı."""
    return (noun.word, "y" + noun.high()) if noun.ends_in_vowel() else (noun.stem, noun.high())


def possessive(noun: Noun, owner: str) -> tuple[str, str]:
    """Form the possessive: kitabım, kitabın, kitabı; arabam, araban, arabası.

    Args:
        noun: What is owned.
        owner: benim, senin or onun.
    """
    if noun.ends_in_vowel():
        return noun.word, {"benim": "m", "senin": "n", "onun": "s" + noun.high()}[owner]
    return noun.stem, noun.high() + {"benim": "m", "senin": "n", "onun": ""}[owner]
