"""Turkish texts that quantized graphs are measured on: prose, questions, numbers and names."""

PASSAGES = (
    (
        "Sabahın erken saatlerinde balıkçılar limana döndü. Deniz sakindi, kasalar hamsiyle doluydu ve kediler çoktan "
        "iskelede sıraya girmişti. İhtiyar kaptan gülümsedi, en küçük balıkları onlara attı."
    ),
    (
        "Bir ekmek yapmak için un, su, tuz ve maya gerekir. Önce maya ılık suda çözülür, sonra un azar azar eklenir. "
        "Hamur bir saat dinlendirilir ve sıcak fırında yarım saat pişirilir."
    ),
    (
        "İstanbul, Asya ile Avrupa'yı ayıran Boğaz'ın iki yakasına kurulmuştur. Yaklaşık on altı milyon insanın "
        "yaşadığı şehirde vapurlar, tramvaylar ve dar sokaklar her gün dolup taşar."
    ),
    (
        'Öğretmen tahtaya bir üçgen çizdi: "İç açılarının toplamı kaç derecedir?" diye sordu. Ayşe elini kaldırdı ve '
        '"Yüz seksen!" dedi. Sınıfın arkasından bir alkış koptu.'
    ),
    (
        "Bilgisayar belleği verileri geçici olarak saklar. Elektrik kesildiğinde içindekiler silinir; bu yüzden önemli "
        "belgeler diske kaydedilmelidir. Yedek almayı unutan, bir gün mutlaka pişman olur."
    ),
    (
        "Kış geldiğinde köyün yolları kapanırdı. Dedem sobanın başında masal anlatır, biz de kestanelerin çatlamasını "
        "beklerdik. Dışarıda kurt ulur, içeride çay kaynardı; dünya küçücük ve sıcacıktı."
    ),
)
QUESTIONS = (
    "Türkiye'nin başkenti neresidir ve hangi bölgededir?",
    "Su kaç derecede kaynar? Kısaca açıkla.",
    "Bana kitap okumanın üç yararını yaz.",
    "On iki artı beş kaç eder?",
)
