"""Sentences in many languages, and the encodings in which such texts were kept before Unicode."""

from collections.abc import Iterator

_TEXTS: dict[str, tuple[str, ...]] = {
    "cp1252 iso-8859-1 iso-8859-15 fr": (
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de ",
        "raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
        " L'été dernier, les élèves sont allés à la plage près du château où le garçon a mangé une ",
        "crêpe.",
    ),
    "cp1252 iso-8859-1 iso-8859-15 de": (
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und ",
        "Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen. Größe und Straße, ",
        "überall schöne Häuser für müde Wanderer; der Fluß fließt durch die Stadt.",
    ),
    "cp1252 iso-8859-1 es": (
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de ",
        "razón y conciencia, deben comportarse fraternalmente los unos con los otros. ¿Cuándo volverá el",
        " niño? Mañana comerá piña en el jardín de la abuela.",
    ),
    "cp1252 iso-8859-1 pt": (
        "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de razão e de",
        " consciência, devem agir uns para com os outros em espírito de fraternidade. A educação é a ",
        "solução; não há razão para não começar amanhã.",
    ),
    "cp1252 iso-8859-1 it": (
        "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ",
        "ragione e di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza. La ",
        "città è più bella perché c'è il caffè; così sarà anche lunedì.",
    ),
    "cp1252 iso-8859-1 iso-8859-15 fi": (
        "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on annettu",
        " järki ja omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä. Viime yönä ",
        "satoi lunta, mutta tänään päivällä sää on hyvä ja lämmin.",
    ),
    "cp1252 iso-8859-1 sv": (
        "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och ",
        "samvete och bör handla gentemot varandra i en anda av broderskap. På våren åker vi båt över ",
        "sjön och äter räksmörgås.",
    ),
    "cp1252 iso-8859-1 da": (
        "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med fornuft og ",
        "samvittighed, og de bør handle mod hverandre i en broderskabets ånd. På øen bor der mange små ",
        "børn, som går i skole hver dag.",
    ),
    "cp1252 iso-8859-1 no": (
        "Alle mennesker er født frie og med samme menneskeverd og menneskerettigheter. De er utstyrt med",
        " fornuft og samvittighet og bør handle mot hverandre i brorskapets ånd. Været blir fint på ",
        "fjellet i påsken, så vi går på ski.",
    ),
    "cp1252 iso-8859-1 nl": (
        "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met ",
        "verstand en geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
        " De coördinatie van de ideeën en één categorieën café.",
    ),
    "cp1252 iso-8859-1 is": (
        "Hver maður er borinn frjáls og jafn öðrum að virðingu og réttindum. Menn eru gæddir vitsmunum ",
        "og samvisku, og ber þeim að breyta bróðurlega hverjum við annan. Það er gott að búa á Íslandi ",
        "þótt veðrið sé kalt.",
    ),
    "cp1252 en": (
        "The café is open; a cake is £5. “All human beings ",
        "are born free and equal in dignity and rights” – ",
        "they’re endowed with reason and conscience and ",
        "should act towards one another in a spirit of ",
        "brotherhood.",
    ),
    "cp1250 iso-8859-2 pl": (
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni ",
        "obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa. Zażółć ",
        "gęślą jaźń; jutro będzie świeciło słońce.",
    ),
    "cp1250 iso-8859-2 cs": (
        "Všichni lidé se rodí svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni rozumem a ",
        "svědomím a mají spolu jednat v duchu bratrství. Příliš žluťoučký kůň úpěl ďábelské ódy a děti ",
        "šly večer domů.",
    ),
    "cp1250 iso-8859-2 sk": (
        "Všetci ľudia sa rodia slobodní a sebe rovní, čo sa týka ich dôstojnosti a práv. Sú obdarení ",
        "rozumom a svedomím a majú navzájom jednať v bratskom duchu. Kôň sa pásol na lúke pri rieke, kde",
        " kvitli žlté kvety.",
    ),
    "cp1250 iso-8859-2 hu": (
        "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, ésszel és ",
        "lelkiismerettel bírván, egymással szemben testvéri szellemben kell hogy viseltessenek. Az ",
        "időjárás ma szép lesz, de hétfőn esős idő várható.",
    ),
    "cp1250 iso-8859-2 ro": (
        "Toate fiinţele umane se nasc libere şi egale în demnitate şi în drepturi. Ele sunt înzestrate ",
        "cu raţiune şi conştiinţă şi trebuie să se comporte unele faţă de altele în spiritul ",
        "fraternităţii. Mâine dimineaţă vom pleca la ţară.",
    ),
    "cp1250 iso-8859-2 hr": (
        "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima. Ona su obdarena razumom",
        " i sviješću i trebaju jedna prema drugima postupati u duhu bratstva. Jučer sam vidio čovjeka ",
        "koji šeće psa uz more; žena mu je kuća.",
    ),
    "cp1250 iso-8859-2 sl": (
        "Vsi ljudje se rodijo svobodni in imajo enako dostojanstvo in enake pravice. Obdarjeni so z ",
        "razumom in vestjo in bi morali ravnati drug z drugim kakor bratje. Včeraj je deževalo, zato smo",
        " ostali doma in brali časopis, žal pa tudi učili se.",
    ),
    "cp1254 iso-8859-9 tr": (
        "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler ve",
        " birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler. Dün akşam İstanbul'da yağmur ",
        "yağdı, çocuklar dışarı çıkamadı.",
    ),
    "cp1257 iso-8859-13 et": (
        "Kõik inimesed sünnivad vabadena ja võrdsetena oma väärikuselt ja õigustelt. Neile on antud ",
        "mõistus ja südametunnistus ja nende suhtumist üksteisesse peab kandma vendluse vaim. Täna öösel",
        " sadas lund ja šokolaad sai otsa.",
    ),
    "cp1257 iso-8859-13 iso-8859-4 lv": (
        "Visi cilvēki piedzimst brīvi un vienlīdzīgi savā pašcieņā un tiesībās. Viņi ir apveltīti ar ",
        "saprātu un sirdsapziņu, un viņiem jāizturas citam pret citu brālības garā. Rīt no rīta mēs ",
        "brauksim uz jūru, ja būs labs laiks.",
    ),
    "cp1257 iso-8859-13 iso-8859-4 lt": (
        "Visi žmonės gimsta laisvi ir lygūs savo orumu ir teisėmis. Jiems suteiktas protas ir sąžinė ir ",
        "jie turi elgtis vienas kito atžvilgiu kaip broliai. Šiandien saulėta, todėl eisime į mišką ",
        "grybauti, o vakare žiūrėsime į žvaigždes.",
    ),
    "cp1251 koi8-r iso-8859-5 cp866 mac_cyrillic ru": (
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и ",
        "совестью и должны поступать в отношении друг друга в духе братства. Сегодня хорошая погода, и ",
        "мы пойдём гулять в парк.",
    ),
    "cp1251 koi8-u uk": (
        "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені розумом і ",
        "совістю і повинні діяти у відношенні один до одного в дусі братерства. Сьогодні гарна погода, і",
        " ми підемо гуляти до їхнього парку.",
    ),
    "cp1251 iso-8859-5 bg": (
        "Всички хора се раждат свободни и равни по достойнство и права. Те са надарени с разум и съвест ",
        "и следва да се отнасят помежду си в дух на братство. Днес времето е хубаво и ще отидем на ",
        "разходка в парка.",
    ),
    "cp1251 iso-8859-5 sr": (
        "Сва људска бића рађају се слободна и једнака у достојанству и правима. Она су обдарена разумом ",
        "и свешћу и треба једни према другима да поступају у духу братства. Јуче је падала киша, па смо ",
        "остали код куће.",
    ),
    "cp1253 iso-8859-7 el": (
        "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα. Είναι ",
        "προικισμένοι με λογική και συνείδηση, και οφείλουν να συμπεριφέρονται μεταξύ τους με πνεύμα ",
        "αδελφοσύνης. Σήμερα ο καιρός είναι καλός.",
    ),
    "cp1255 iso-8859-8 he": (
        "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם. כולם חוננו בתבונה ובמצפון, לפיכך חובה ",
        "עליהם לנהוג איש ברעהו ברוח של אחוה. היום מזג האוויר יפה ואנחנו הולכים לטייל בפארק.",
    ),
    "cp1256 iso-8859-6 ar": (
        "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق. وقد وهبوا عقلاً وضميراً وعليهم أن يعامل ",
        "بعضهم بعضاً بروح الإخاء. الطقس جميل اليوم وسوف نذهب إلى الحديقة بعد الظهر.",
    ),
    "cp874 th": (
        "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม ",
        "และควรปฏิบัติต่อกันด้วยเจตนารมณ์แห่งภราดรภาพ วันนี้อากาศดีมาก",
    ),
    "cp932 euc_jp iso2022_jp ja": (
        "すべての人間は、生れながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心",
        "とを授けられており、互いに同胞の精神をもって行動しなければならない。今日は天気がいいですね。",
    ),
    "gb18030 gb2312 hz zh": (
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。今天天气很好，",
        "我们去公园散步吧。",
    ),
    "big5 gb18030 zt": (
        "人人生而自由，在尊嚴和權利上一律平等。他們賦有理性和良心，並應以兄弟關係的精神相對待。今天天氣很好，",
        "我們去公園散步吧。",
    ),
    "cp949 iso2022_kr ko": (
        "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. 인간은 천부적으로 ",
        "이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 한다. 오늘은 날씨가 좋아서 ",
        "공원에 갑니다.",
    ),
}


def legacy_texts() -> Iterator[tuple[str, str]]:
    """Texts, each with an encoding of its language; the last word of a key names the language."""
    for key, parts in _TEXTS.items():
        *encodings, _ = key.split()
        for encoding in encodings:
            yield "".join(parts), encoding
