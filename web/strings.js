/** What the page says, in Turkish and in English. */

/** @typedef {typeof TEXTS.tr} Texts */

const TEXTS = {
  tr: {
    tagline: "Yanıt, maskelerin altından adım adım belirir.",
    language: "Dil",
    question: "Soru",
    ask: "Sor",
    examples: "Örnek sorular",
    talk: "Sohbet",
    newTalk: "Yeni sohbet",
    showSteps: "Adımlarını göster",
    settings: "Ayarlar",
    history: "Önceki turları modele gönder",
    placeholder: "Bir soru yazın",
    system: "Sistem metni: model her yanıtta göz önünde tutar",
    key: "API anahtarı",
    unlock: "Gönder",
    states: {
      stopped: "Durduruldu; model sonraki sorularda bunu görmez.",
      cut: "Yarıda kaldı; model sonraki sorularda bunu görmez.",
      full: "Ön ayarın token sınırında kesildi.",
    },
    preset: "Ön ayar",
    short: "kısa",
    long: "uzun",
    fast: "hızlı",
    seed: "Tohum",
    temperature: "Sıcaklık",
    answer: "Yanıt",
    canvas: "Tuval",
    canvasHelp: "Ok tuşları yerler arasında gezinir; her yer, tokenini ve modelin ona güvenini söyler.",
    legend: "Görünümler",
    mask: "maskeli",
    new: "yeni",
    settled: "yerleşmiş",
    beyond: "gerekmedi",
    step: "Adım",
    taken: "adım",
    savedByEnd: "geçiş erken bitişle atlandı",
    savedByBoth: "geçiş erken bitiş ve toplu yerleştirmeyle atlandı",
    spared: "yer gerekmedi",
    speed: "token/sn",
    context: "bağlam tokeni",
    ofContext: (tokens, context) => `${tokens} / ${context}`,
    remote:
      "Sorularınızı bu sayfanın geldiği sunucu yanıtlar; başka bir yere bir şey gönderilmez. Sohbet bu tarayıcıda saklanır, “Yeni sohbet” onu siler.",
    local: "Her şey bu sayfada çalışır; yazdıklarınız bilgisayarınızdan çıkmaz.",
    play: "Adımları oynat",
    stop: "Durdur",
    loading: "Model yükleniyor…",
    waiting: "Sorunuz bekliyor: model yüklenince yanıtlanacak…",
    bytes: (here, all, share) => `${all} MB’nin ${here} MB’si, ${share}`,
    stepOf: (step, count) => `${step} / ${count}`,
    place: (number, text) => `${number}. yer: ${text}`,
    token: (piece, state, confidence, step) => `${piece}, ${state}, güven ${confidence}, ${step}. adım`,
    confidence: (share) => `güven ${share}`,
    at: (step) => `${step}. adımda`,
    allMasked: "hepsi maskeli",
    newOnes: (pieces) => `yeni: ${pieces}`,
    done: (text, count) => `${count} adımda bitti: ${text}`,
    space: "boşluk",
    newline: "satır sonu",
    filler: "dolgu",
    wasm: (threads) => `WebAssembly, ${threads} iş parçacığı`,
    webgpu: () => "WebGPU",
    server: (name) => `${name}, bu sunucuda`,
    nano: "Yanıtlayan nano’dur: makalenin modeli değil, on üç tür alıştırma bilen küçük bir gösterim.",
    nanoTalk: "Her soru ona tek başına sorulur, çünkü eğitiminde önceki turlar yoktu; Ayarlar bunu değiştirir.",
    errors: {
      tooLong: ({ context }) =>
        `Bu soru modele sığmıyor: soru ve yanıt birlikte en çok ${context} token olabilir. Soruyu kısaltın ya da kısa ön ayarı seçin.`,
      input: () => "Bu soru yanıtlanamıyor.",
      empty: () => "Önce bir soru yazın.",
      seed: () => "Tohum, 0 ile 18446744073709551615 arasında bir tam sayı olmalı.",
      temperature: () => "Sıcaklık 0 ya da 0,01 ile 1000 arasında bir sayı olmalı; 0 her zaman en olası tokeni seçer.",
      option: () => "Bu seçenekler birlikte kullanılamıyor.",
      modelMissing: () => "Bu adreste model bulunamadı. Adresi denetleyin; bir model klasöründe diffutron.json vardır.",
      elsewhere: () => "Model bu sayfanın sunucusunda olmalı; başka bir yerden bir şey indirilmez.",
      libraryMissing: () =>
        "onnxruntime-web ya da @huggingface/tokenizers kurulu değil. Sayfayı diffutron-ort demo ile açın ya da web klasöründe npm ci --ignore-scripts çalıştırın.",
      unreachable: () => "Sunucuya ulaşılamıyor. diffutron-ort demo hâlâ çalışıyor mu?",
      untrue: () => "Ekran kartı bu modelle yanlış hesaplıyor. Adresteki device=webgpu yerine device=wasm yazın.",
      unchecked: () =>
        "Bu model ekran kartında denetlenemiyor. Adresteki device=webgpu yerine device=wasm yazın.",
      broken: () => "Model bozuk ya da bu sayfadan yeni. Yeniden indirin veya dışa aktarın.",
      gone: () => "Sunucuya ulaşılamıyor. diffutron-ort serve hâlâ çalışıyor mu?",
      talkTooLong: ({ context }) =>
        `Bu sohbet modele sığmıyor: geçmiş, soru ve yanıt birlikte en çok ${context} token olabilir. Soruyu kısaltın, kısa ön ayarı seçin ya da yeni bir sohbete başlayın.`,
      cut: () => "Bağlantı yanıtın ortasında koptu. Yeniden sorun.",
      late: () => "Sunucu yanıtı bitiremedi. Yeniden sorun.",
      busy: ({ seconds }) => `Sunucu dolu. ${seconds ? `${seconds} saniye` : "Biraz"} sonra yeniden sorun.`,
      unready: ({ seconds }) =>
        `Sunucu şu anda soru almıyor: modelini yüklüyor ya da kapanıyor. ${seconds ? `${seconds} saniye` : "Biraz"} sonra yeniden sorun.`,
      locked: () => "Bu sunucu bir API anahtarı istiyor. Anahtar yalnızca bu sekmede saklanır.",
      wrongKey: () => "Sunucu bu anahtarı kabul etmedi. Denetleyip yeniden girin.",
      elsewhereNow: () => "Sunucuda bu model artık yok. Sayfayı yeniden yükleyin.",
      tooLarge: () => "Bu sohbet sunucuya çok büyük geldi. Soruyu kısaltın ya da yeni bir sohbete başlayın.",
      refused: () => "Sunucu bu soruyu kabul etmedi.",
      failed: () => "Beklenmeyen bir hata oldu.",
    },
  },
  en: {
    tagline: "The answer emerges from under masks, step by step.",
    language: "Language",
    question: "Question",
    ask: "Ask",
    examples: "Example questions",
    talk: "Chat",
    newTalk: "New chat",
    showSteps: "Show its steps",
    settings: "Settings",
    history: "Send earlier turns to the model",
    placeholder: "Type a question",
    system: "System text: the model keeps it in mind in every answer",
    key: "API key",
    unlock: "Send",
    states: {
      stopped: "Stopped; the model does not see this in later questions.",
      cut: "Broken off; the model does not see this in later questions.",
      full: "Cut off at the preset’s limit of tokens.",
    },
    preset: "Preset",
    short: "short",
    long: "long",
    fast: "fast",
    seed: "Seed",
    temperature: "Temperature",
    answer: "Answer",
    canvas: "Canvas",
    canvasHelp: "Arrow keys move between the places; each tells its token and the model's confidence in it.",
    legend: "Looks",
    mask: "masked",
    new: "new",
    settled: "settled",
    beyond: "not needed",
    step: "Step",
    taken: "steps",
    savedByEnd: "of passes saved by the early end",
    savedByBoth: "of passes saved by the early end and joint commits",
    spared: "places not needed",
    speed: "tokens/s",
    context: "tokens of context",
    ofContext: (tokens, context) => `${tokens} / ${context}`,
    remote:
      "The server that this page came from answers your questions; nothing is sent anywhere else. The chat is kept in this browser, and “New chat” deletes it.",
    local: "Everything runs in this page; what you type stays on your computer.",
    play: "Play the steps",
    stop: "Stop",
    loading: "Loading the model…",
    waiting: "Your question waits: it is answered when the model has been loaded…",
    bytes: (here, all, share) => `${here} of ${all} MB, ${share}`,
    stepOf: (step, count) => `${step} / ${count}`,
    place: (number, text) => `Place ${number}: ${text}`,
    token: (piece, state, confidence, step) => `${piece}, ${state}, confidence ${confidence}, step ${step}`,
    confidence: (share) => `confidence ${share}`,
    at: (step) => `in step ${step}`,
    allMasked: "all masked",
    newOnes: (pieces) => `new: ${pieces}`,
    done: (text, count) => `Done in ${count} steps: ${text}`,
    space: "space",
    newline: "newline",
    filler: "filler",
    wasm: (threads) => `WebAssembly, ${threads} thread${threads === 1 ? "" : "s"}`,
    webgpu: () => "WebGPU",
    server: (name) => `${name}, on this server`,
    nano: "What answers is nano: not the paper’s model, but a small demonstration that knows thirteen kinds of exercises.",
    nanoTalk: "Each question is sent to it alone, since it was not trained on earlier turns; Settings change that.",
    errors: {
      tooLong: ({ context }) =>
        `This question does not fit the model: question and answer together can have ${context} tokens. Shorten the question, or choose the preset short.`,
      input: () => "This question cannot be answered.",
      empty: () => "Type a question first.",
      seed: () => "The seed must be an integer from 0 to 18446744073709551615.",
      temperature: () => "The temperature must be 0, or a number from 0.01 to 1000; 0 always takes the likeliest token.",
      option: () => "These options cannot be used together.",
      modelMissing: () => "There is no model at this address. Check it; a model's folder has a diffutron.json.",
      elsewhere: () => "The model must be on this page's own server; nothing is fetched from elsewhere.",
      libraryMissing: () =>
        "onnxruntime-web or @huggingface/tokenizers is not installed. Open the page by diffutron-ort demo, or run npm ci --ignore-scripts in web.",
      unreachable: () => "The server cannot be reached. Is diffutron-ort demo still running?",
      untrue: () => "The graphics card computes this model wrongly. In the address, write device=wasm for device=webgpu.",
      unchecked: () =>
        "This model cannot be checked on the graphics card. In the address, write device=wasm for device=webgpu.",
      broken: () => "The model is broken, or newer than this page. Download or export it again.",
      gone: () => "The server cannot be reached. Is diffutron-ort serve still running?",
      talkTooLong: ({ context }) =>
        `This chat does not fit the model: history, question and answer together can have ${context} tokens. Shorten the question, choose the preset short, or start a new chat.`,
      cut: () => "The connection broke in the middle of the answer. Ask again.",
      late: () => "The server could not finish the answer. Ask again.",
      busy: ({ seconds }) => `The server is busy. Ask again in ${seconds ? `${seconds} seconds` : "a moment"}.`,
      unready: ({ seconds }) =>
        `The server takes no questions now: it is loading its model or shutting down. Ask again in ${seconds ? `${seconds} seconds` : "a moment"}.`,
      locked: () => "This server asks for an API key. The key is kept in this tab only.",
      wrongKey: () => "The server did not accept this key. Check it, and type it again.",
      elsewhereNow: () => "The server no longer has this model. Reload the page.",
      tooLarge: () => "This chat is too large for the server. Shorten the question, or start a new chat.",
      refused: () => "The server did not accept this question.",
      failed: () => "Something unexpected went wrong.",
    },
  },
};

/** @param {string} language @returns {Texts} */
export function texts(language) {
  return TEXTS[language];
}

/**
 * A probability as a percentage that says 100 only where it is 1.
 *
 * @param {number} share @param {string} language @param {number} digits
 */
export function percent(share, language, digits = 2) {
  const most = 1 - 10 ** -(digits + 2);
  const format = new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: digits });
  return share > most && share < 1 ? `> ${format.format(most)}` : format.format(share);
}

/** @param {number} bytes @param {string} language */
export function megabytes(bytes, language) {
  const format = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  return format.format(bytes / 1e6);
}

/** @param {string} piece @param {Texts} texts @returns {string} what a screen reader can say */
export function spoken(piece, texts) {
  if (/^<(pad|eos)>$/.test(piece)) return texts.filler;
  return piece.replace(/^▁/, "").replaceAll("\n", texts.newline) || texts.space;
}
