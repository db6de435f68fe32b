"""The words and facts that the exercises are about, checked by hand."""

from __future__ import annotations

from turkish import Noun

# A word that changes before a vowel is written word/stem; * marks front suffixes after a back vowel.
_NOUNS = """
araba masa kapı oda elma anne baba köprü gemi ütü kutu bahçe çanta pencere lamba kedi halı perde şapka bina
cadde müze banka fare arı karınca yumurta çorba kahve ev okul kalem defter göz el yol dağ göl kuş deniz gül tren
otobüs telefon duvar otel anahtar aslan fil yılan limon muz kiraz üzüm biber soğan peynir zeytin çay tuz şeker
fırın orman at et ip top saç süt ot bulut sepet bisiklet market park ceket saat* kalp/kalb*
sokak/sokağ uçak/uçağ köpek/köpeğ çiçek/çiçeğ ekmek/ekmeğ yatak/yatağ bardak/bardağ tabak/tabağ mutfak/mutfağ
bıçak/bıçağ kaşık/kaşığ çocuk/çocuğ ayak/ayağ kulak/kulağ parmak/parmağ yaprak/yaprağ böcek/böceğ inek/ineğ
tavuk/tavuğ sözlük/sözlüğ gömlek/gömleğ balık/balığ çilek/çileğ renk/reng
kitap/kitab dolap/dolab çorap/çorab mektup/mektub cevap/cevab ağaç/ağac ilaç/ilac havuç/havuc kanat/kanad
armut/armud yurt/yurd kurt/kurd şehir/şehr burun/burn ağız/ağz isim/ism resim/resm
"""

_ANTONYMS = """
büyük-küçük uzun-kısa iyi-kötü güzel-çirkin sıcak-soğuk açık-kapalı yeni-eski hızlı-yavaş kolay-zor dolu-boş
ağır-hafif kalın-ince geniş-dar yüksek-alçak derin-sığ temiz-kirli zengin-fakir güçlü-güçsüz genç-yaşlı sert-yumuşak
kuru-ıslak doğru-yanlış siyah-beyaz tatlı-acı aydınlık-karanlık erken-geç yakın-uzak az-çok içeri-dışarı aşağı-yukarı
ileri-geri sağ-sol gece-gündüz mutlu-mutsuz var-yok alt-üst ön-arka giriş-çıkış cesur-korkak pahalı-ucuz
"""

_CAPITALS = """
Türkiye'nin-Ankara Fransa'nın-Paris Almanya'nın-Berlin İtalya'nın-Roma İspanya'nın-Madrid Portekiz'in-Lizbon
İngiltere'nin-Londra İrlanda'nın-Dublin Yunanistan'ın-Atina Bulgaristan'ın-Sofya Romanya'nın-Bükreş
Macaristan'ın-Budapeşte Avusturya'nın-Viyana Polonya'nın-Varşova Rusya'nın-Moskova Ukrayna'nın-Kiev
Norveç'in-Oslo İsveç'in-Stockholm Finlandiya'nın-Helsinki Danimarka'nın-Kopenhag Belçika'nın-Brüksel
Japonya'nın-Tokyo Çin'in-Pekin Pakistan'ın-İslamabad İran'ın-Tahran Irak'ın-Bağdat Suriye'nin-Şam Mısır'ın-Kahire
Azerbaycan'ın-Bakü Gürcistan'ın-Tiflis Ermenistan'ın-Erivan Özbekistan'ın-Taşkent Küba'nın-Havana Peru'nun-Lima
Sırbistan'ın-Belgrad Hırvatistan'ın-Zagreb Kanada'nın-Ottawa Kenya'nın-Nairobi
"""

DAYS = ("pazartesi", "salı", "çarşamba", "perşembe", "cuma", "cumartesi", "pazar")
MONTHS = (
    "ocak", "şubat", "mart", "nisan", "mayıs", "haziran",
    "temmuz", "ağustos", "eylül", "ekim", "kasım", "aralık",
)  # fmt: skip


def _noun(entry: str) -> Noun:
    word, _, stem = entry.rstrip("*").partition("/")
    return Noun(word, stem or word, entry.endswith("*"))


NOUNS = tuple(map(_noun, _NOUNS.split()))
ANTONYMS = tuple((a, b) for a, b in (pair.split("-") for pair in _ANTONYMS.split()))
CAPITALS = tuple((country, city) for country, city in (pair.split("-") for pair in _CAPITALS.split()))
"""Country in the genitive, as in "Fransa'nın", and its capital."""
