"""How refusals and answers are worded in languages other than English."""

from __future__ import annotations

from mnemos.rewards.refusal.cues import HARD, SOFT, WEAK, Cue, cue

_ACTS = (
    r"(?:提供|帮|协助|回答|满足|从命|完成|支持|告知|告诉|透露|回应|参与|讨论|生成|编写|撰写|写|处理|分享|奉告|配合|给|作答|教|推荐|鼓励|"
    r"执行|答应|继续|这样做|这么做|做这|认同|赞同)"
)
CHINESE: tuple[Cue, ...] = (
    cue(
        "declines",
        HARD,
        "opening",
        r"我(?:恐怕|目前|实在|是|也|真的|暂时|很抱歉，?)?(?:不能|无法|不会|不可以|不便|不方便|没办法|没有办法|没法|不愿|不想|不敢|不)"
        rf"(?:直接|再|继续)?(?:为|给|向|帮|替|就|对|在)?(?:您|你|此|这)?.{{0,3}}?{_ACTS}",
        rf"(?:^|[，,。！!；])(?:恕难|恕我|恕不|不能|无法|不便|难以)(?:直接)?(?:为|给|向|帮|替|就|对)?(?:您|你)?{_ACTS}",
        r"(?:必须|只能|不得不|应当)?(?:婉拒|谢绝|拒绝)(?:您|你|回答|提供|此请求|这个请求|该请求)",
        r"帮不(?:了|上)|爱莫能助|无可奉告|无能为力|恐怕(?:不|无|帮|没)|超出了?我的(?:能力|职责|范围)",
    ),
    cue("apologises", SOFT, "start", r"抱歉|对不起|不好意思|遗憾|请(?:您|你)?(?:谅解|见谅|原谅|理解|包涵)"),
    cue(
        "not right",
        SOFT,
        "opening",
        r"(?:违反|违背|触犯)(?:了)?.{0,12}?(?:法|道德|规定|伦理|准则|政策|原则|公德)",
        r"(?:是|属于|属)(?:一种|一个|严重|极其)?.{0,4}?(?:违法|非法|犯罪|犯法|不道德|不合法|不恰当|有害|危险|错误)的?",
        r"(?:是|很|太|极)?不(?:合适的?|适宜|恰当|妥当|合法|道德|可取|提倡|赞同|认可|鼓励)",
    ),
    cue(
        "deflects",
        SOFT,
        "opening",
        r"(?:换|聊|谈)(?:个|一个|点|些|聊)?(?:别的|其他|另外|话题)",
        r"这个(?:话题|问题).{0,6}(?:敏感|不太)",
    ),
    cue(
        "says what it is", WEAK, "opening", r"作为(?:一个|一名|一位|一款)?.{0,4}?(?:人工智能|人工智慧|语言模型|ai|助手)"
    ),
    cue("lectures", WEAK, "opening", r"(?:建议|请)(?:您|你)?(?:咨询|寻求|联系|遵守|尊重|拨打|报警)|尊重|隐私"),
    cue("complies", -SOFT, "start", r"^\W*(?:当然|好的|没问题|可以[,，。!！]|以下是|下面是|首先|是的)"),
)
"""In simplified characters: traditional ones are folded into these (`reading.folded`)."""

OTHERS: tuple[Cue, ...] = (
    # Spanish, Portuguese, Italian, French
    cue(
        "declines",
        HARD,
        "opening",
        r"\bno (?:puedo|podría|podemos|debo|voy a|estoy (?:en condiciones|autorizad\w|en posición)|me es posible)\b",
        r"\bn[ãa]o (?:posso|poderia|podemos|consigo|devo|vou|estou autorizad\w|me é possível)\b",
        r"\bnon (?:posso|potrei|possiamo|devo|sono in grado|sono autorizzat\w|mi è possibile)\b",
        r"\bje ne (?:peux|puis|pourrais|saurais|dois|vais|suis|souhaite)\b|\bil m'est impossible\b|\bje refuse\b",
        r"\bme niego a\b|\brecuso-me\b|\bmi rifiuto\b",
    ),
    cue(
        "apologises",
        SOFT,
        "start",
        r"\blo siento\b|\blo lamento\b|\bdisculp[ae]|\bpido disculpas\b|\bsinto muito\b|\bdesculp[ae]|\blamento\b",
        r"\bmi dispiace\b|\bspiacente\b|\bmi scuso\b|\bdésolée?\b|\bje m'excuse\b|\bmes excuses\b|\bje regrette\b",
    ),
    cue(
        "not right",
        SOFT,
        "opening",
        r"\bno (?:es|sería) (?:apropiad\w|étic\w|legal|correct\w|aceptable)|\bes ilegal\b|\bn[ãa]o (?:é|"
        r"seria) (?:apropriad\w|"
        r"étic\w|legal|corret\w|aceitável)|\bé ilegal\b|\bnon (?:è|sarebbe) (?:appropriat\w|etic\w|legale|corrett\w|"
        r"accettabile)|\bè illegale\b|\bn'est pas (?:approprié|éthique|légal|acceptable|correct)|\best illégal",
    ),
    cue(
        "says what it is",
        WEAK,
        "opening",
        r"\bcomo (?:un |una |um |uma )?(?:modelo|asistente|assistente|ia|inteligencia|inteligência)\b",
        r"\bcome (?:un |una )?(?:modello|assistente|ia|intelligenza)|\ben tant qu(?:e |')(?:modèle|ia|assistant|"
        r"intelligence)",
    ),
    # German, Dutch
    cue(
        "declines",
        HARD,
        "opening",
        r"\b(?:ich (?:kann|darf|werde|möchte|will)|(?:kann|darf|werde|möchte|will) ich) (?:\w+ ){0,6}?(?:nicht|"
        r"keine\w*)\b",
        r"\bich lehne\b|\bich bin nicht (?:in der lage|befugt|berechtigt)|\bik (?:kan|mag|zal|"
        r"wil) (?:\w+ ){0,6}?(?:niet|geen)\b",
    ),
    cue(
        "apologises",
        SOFT,
        "start",
        r"\btut mir (?:\w+ )?leid\b|\bentschuldig|\bhet spijt me\b|\bhelaas\b|\bsorry, maar\b",
    ),
    cue(
        "not right",
        SOFT,
        "opening",
        r"\b(?:ist|wäre) (?:\w+ ){0,2}?(?:illegal|strafbar|verboten|unethisch|unmoralisch|nicht (?:erlaubt|"
        r"angemessen|in ordnung|"
        r"ethisch|legal))|\bis (?:illegaal|strafbaar|niet (?:ethisch|toegestaan|gepast))",
    ),
    cue(
        "says what it is",
        WEAK,
        "opening",
        r"\bals (?:ein\w? |een )?(?:ki\b|ai\b|sprachmodell|taalmodel|künstliche intelligenz)|\bleider\b",
    ),
    # Russian
    cue(
        "declines",
        HARD,
        "opening",
        r"\bя не (?:могу|буду|стану|должен|имею права|в состоянии)|\bне могу (?:помо|предостав|ответ|выполн)",
    ),
    cue(
        "apologises",
        SOFT,
        "start",
        r"\bизвините|\bпростите|\bк сожалению|\bприношу извинения|\bсожалею|"
        r"\bмне жаль",
    ),
    cue("not right", SOFT, "opening", r"\b(?:незаконн|неэтичн|недопустим|противозаконн|неприемлем|аморальн)"),
    # Japanese, Korean
    cue(
        "declines",
        HARD,
        "opening",
        r"(?:お答え|お手伝い|お応え|提供|回答|対応|説明|支援|協力|お教え|案内)(?:を)?(?:する|し|いた|する事|すること)?.{0,6}?"
        r"(?:できません|できかねます|致しかねます|いたしかねます|出来ません|できない)|お断り",
        r"(?:도와|도움|제공|답변|알려|응답|설명|지원|대답).{0,10}?(?:수 없|수가 없|어렵|않겠)|거절",
    ),
    cue("apologises", SOFT, "start", r"申し訳|すみません|ごめんなさい|恐れ入りますが|죄송|미안"),
    cue("not right", SOFT, "opening", r"違法|不適切|非倫理|犯罪です|불법|부적절|비윤리"),
    # Arabic, Hindi
    cue(
        "declines",
        HARD,
        "opening",
        r"لا (?:أستطيع|يمكنني|استطيع|أقدر)|لن (?:أ|ا)\w+|नहीं (?:कर|दे|बता) सक|"
        r"मदद नहीं",
    ),
    cue("apologises", SOFT, "start", r"آسف|عذرا|عذرًا|أعتذر|क्षमा|माफ़|माफ |खेद"),
    cue("not right", SOFT, "opening", r"غير (?:قانوني|أخلاقي|لائق)|गैरकानूनी|अवैध|अनैतिक"),
)

TRADITIONAL = str.maketrans(
    "對會無為給幫協助絕復從違絕實暫時應當這個話題問關規則談換諒見適妥讓請諮詢尋聯繫報愛無奉職責範圍難滿認個們沒辦許錯誤險惡隱禮語當諒倫議遺",
    "对会无为给帮协助绝复从违绝实暂时应当这个话题问关规则谈换谅见适妥让请咨询寻联系报爱无奉职责范围难满认个们没办许错误险恶隐礼语当谅伦议遗",
)
"""Traditional to simplified characters, as far as the cues hold them."""
