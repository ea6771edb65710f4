"""The function words of languages: articles, pronouns, prepositions, conjunctions and auxiliaries.

They say what language a text is in, since every third word of prose is one, and say nothing about its topic. Verbs and
nouns are left out, however common.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from services.indexing.analysis.folding import folded

_WORDS: Final = {
    "en": "a about above after again against all also although am among an and any are as at be because been before "
    "being below between both but by can could did do does doing done during each either for from further had has "
    "have having he her here hers herself him himself his how i if in into is it its itself may me might more most "
    "must my myself no nor not of off on once only or other our ours ourselves out over own same shall she should "
    "so some such than that the their theirs them themselves then there therefore these they this those through "
    "thus to too under until up upon very was we were what when where whether which while who whom whose why will "
    "with within without would yet you your yours yourself",
    "de": "aber alle allem allen aller alles als also am an auch auf aus bei beim bin bis bist da damit dann das "
    "dass daß dein dem den denn der des dessen die dies diese diesem diesen dieser dieses doch dort du durch ein "
    "eine einem einen einer eines er es euch euer für gegen hab habe haben hat hatte hatten hier hinter ich ihm ihn "
    "ihnen ihr ihre ihrem ihren ihrer im in ins ist ja jede jeder jedes kann kein keine keinen können man mein mich "
    "mir mit muss nach nicht nichts noch nun nur ob oder ohne sehr sein seine seinem seinen seiner sich sie sind so "
    "soll sondern um und uns unser unter vom von vor war waren warum was weil wenn wer werden wie wir wird wo "
    "worden wurde wurden zu zum zur zwischen über",
    "fr": "à ai alors au aucun aussi aux avait avec avez avoir ayant c ce cela ces cet cette chez comme comment d "
    "dans de des dont du elle elles en entre est et étaient était été être eu eux fait il ils j je l la le les leur "
    "leurs lui m ma mais me même mes moi mon n ne ni nos notre nous on ont ou où par pas pendant plus pour pourquoi "
    "qu quand que quel quelle qui s sa sans se sera ses si soit son sont sous sur t ta te tes toi ton tous tout "
    "toute toutes très tu un une vos votre vous y",
    "es": "a al algo ante antes aquel aquella así aun aunque como con contra cual cuando de del desde donde dos "
    "durante e el ella ellas ellos en entre era eran es esa ese eso esta estaba están estar estas este esto estos "
    "fue fueron ha había han hasta hay la las le les lo los más me mi mientras muy nada ni no nos nosotros nuestra "
    "nuestro o otra otro para pero por porque que qué quien se sea según ser si sí sin sobre son su sus también "
    "tanto te tiene todo todos tu tus un una uno unos usted y ya yo",
    "it": "a abbiamo ad agli ai al alla alle allo anche avere aveva c che chi ci ciò come con contro cui da dagli "
    "dai dal dalla dalle degli dei del dell della delle dello di dove e è ed era erano essere fra fu gli ha hanno "
    "ho i il in io l la le lei li lo loro lui ma mi mia mio ne negli nei nel nell nella nelle nello noi non nostro "
    "o ogni per perché più poi quale quando quella quelle quelli quello questa queste questi questo qui se sei "
    "senza si sia sono sotto sta su sua sue sugli sui sul sulla sulle suo suoi tra tu tutti tutto un una uno voi",
    "pt": "a à ao aos aquela aquele aqui as às até com como contra da das de dela dele depois do dos e é ela elas "
    "ele eles em entre era eram essa esse esta está estão este eu foi foram há isso isto já lhe lo mais mas me "
    "mesmo meu minha muito na não nas nem no nos nós nossa nosso num numa o os ou para pela pelas pelo pelos per "
    "por porque qual quando que quem são se sem ser seu seus só sob sobre sua suas também te tem tinha toda todo "
    "todos tu um uma você vos",
    "ca": "a al als amb aquell aquella aquest aquesta així això amb com contra d de del dels des després doncs dos "
    "e el ell ella elles ells els em en entre era eren és esta està estan et fins ha hi ho i jo l la les li llavors "
    "me meu més molt n ni no nosaltres on o per però perquè pel pels qual quan que què qui s se sense ser seu seva "
    "si sobre són sota també te tot tota tots un una uns va van",
    "ro": "a acea aceasta această acest aceste acestea acestui acolo ai al ale am ar are aş asupra au avea ca că "
    "care cât ce cea cel cele cu cum da dacă dar de decât deci despre din după ea ei el ele era este eu fără fi fie "
    "fiind fost iar îi în încă între într însă la le li lor lui mai mea mele meu mi ne nici noi nostru nu o or ori "
    "pe pentru prin sa să sale sau se și si sub sunt şi te tot tu un una unde unei unor unui va vom voastră vor",
    "nl": "aan al alle als altijd ben bij daar dan dat de deze die dit doch door dus een en er ge geen had heb "
    "hebben heeft hem het hier hij hoe hun ik in is ja je kan kon maar me meer men met mij mijn moet na naar niet "
    "niets nog nu of om omdat onder ons ook op over te tegen tot tussen u uit uw van veel voor waar was wat werd "
    "wie wij wil worden wordt zal ze zelf zich zij zijn zo zonder zou",
    "da": "af alle at blev blive bliver da de dem den denne der deres det dette dig din disse dog du efter eller en "
    "end er et få får for fra ham han har havde have her hos hun hvad hvis hvor hvordan i ikke ind jeg jer jo kan "
    "kom kunne man mange med meget men mig min mod når ned nogen noget nu og også om op os over på sig sin skal "
    "skulle som til ud uden under var ved vi vil ville være",
    "sv": "alla än är att av blev bli blir då dag de dem den denna deras dess det detta dig din du efter ej eller "
    "en er ett för från ha hade han har här henne hon honom hur i icke ingen inom inte jag kan kunde man med mellan "
    "men mig min mot mycket när någon något nu och om oss på sedan sig sin ska skulle som så till under upp ut utan "
    "vad var vara varje vi vid vilka vilken vill",
    "no": "alle at av både bare ble bli blir da de deg dem den denne der deres det dette din disse du eller en enn "
    "er et etter få for fordi fra før ha hadde han hans har hennes her hun hva hver hvis hvor hvordan i ikke ingen "
    "inn jeg kan kunne man mange med meg mellom men mer min mot mye når ned noe noen nå og også om opp oss over på "
    "seg selv si sin skal skulle som så til ut uten var ved vi vil ville vært være",
    "fi": "ja joka jos jota kanssa että ei eivät eli en ennen entä et ettei he hän häntä heidän hänen ilman itse jo "
    "joiden joissa jolloin jonka jossa jotka jotta kaikki kautta koko koska kuin kuinka kuitenkin kun kuten kyllä "
    "me mikä mitä mukaan mutta myös ne niiden niin niitä noin nyt oli olivat olla ollut on ovat sekä se sen siinä "
    "sitä tai tämä tämän tässä te tuo vaan vai vain vielä voi",
    "hu": "a ahol aki akik amely amelyek ami amit amikor át az azért azok azon azonban azt azzal be csak de e egy "
    "egyéb egyik ehhez el én ennek és és ez ezek ezen ezért ezt fel ha hanem hiszen hogy hogyan igen így ill "
    "illetve is itt ki kell kellett két ki le lehet lenne lesz lett majd már más meg mellett mert mi mind minden "
    "mint mivel nagyon ne nem nincs olyan ön össze ők ő pedig saját se sem si sok szerint szinte tehát te úgy után "
    "vagy van vannak vele volna volt voltak",
    "pl": "a aby albo ale ani aż bardzo bez bo by być był była było były bym będzie ci co czy czyli dla do dlaczego "
    "gdy gdzie go i ich im innych iż ja jak jaka jakie jako je jednak jego jej jest jeszcze jeśli już każdy kiedy "
    "kto która które którego której który których którym którzy lub ma mają mi może mnie mu my na nad nam nas nasz "
    "nawet nich nie nim niż o od ona one oni ono oraz po pod ponieważ poza przed przede przez przy są się sobie "
    "swoje ta tak także tam te tego tej ten też to tu ty tych tylko tym u w we więc właśnie wszystkich wszystko z "
    "za ze że żeby",
    "cs": "a aby aj ale ani asi až bez bude budou by byl byla byli bylo být co což či další do ho i já jak jako je "
    "jeho jej jejich její jemu jen jenom ještě ji jiné jsem jsi jsme jsou jste již k kam kde kdo kdy když která "
    "které který kteří ku ma má mají mezi mi mít mne mnou můj může my na nad nám nás ne nebo nebyl než ni nic nich "
    "ním o od on ona oni ono pak po pod podle pokud pouze pro proč proto protože před přes při s se si sice své "
    "svůj ta tak také takže tato te tedy ten tento této to toho tom toto tu tuto ty tyto u už v vám vás ve více "
    "však všechny vy z za ze že",
    "tr": "acaba ama ancak ben beni benim beri bile bir biri biz bize bu buna bunda bundan bunlar bunu bunun çok "
    "çünkü da daha de defa diye dolayı eğer en fakat gibi göre hem hep hepsi her hiç için ile ise işte kadar karşı "
    "kendi ki kim mi mı mu mü nasıl ne neden nerde nerede niçin o olan olarak ona onlar onu onun oysa öyle rağmen "
    "sanki sen siz sonra şey şu tüm üzere var ve veya ya yani yok",
    "et": "aga ei enam ent et ette ega ehk ja juba jooksul ka kas kes kell keda kelle kui kuid kuidas kus küll läbi "
    "ma me mida mille millest millele mis miks mina mitte möödas nad need neid nende ning nii nüüd oma on ole olema "
    "oli olid olnud pole peale pärast see seda selle selles sellest siin siis sa ta tema te üks või väga üle vastu",
    "lt": "ant apie ar arba bet bei buvo būti čia dar dėl gal iki ir iš į ją jau jei jeigu ji jie jis jo jos jų ka "
    "kad kai kaip kas ko kodėl kol kur kuri kurie kuris mes nes net nei nėra nors nuo o pagal pas per po prie prieš "
    "savo ši šis šio su tačiau tai taip tarp tas te tiek tik to todėl tos tu tuo už yra",
    "ga": "a ach ag agus an ann ar as atá ba bhí ca chun cad cé dá de den do don é faoi féin gach gan go gur i iad "
    "is í le leis má mar mo na ná nach ní níl níor nó ó ón os roimh sa san sé seo sí sin siad tá thar trí um",
    "id": "ada adalah agar akan aku anda antara apa apakah atas atau bagaimana bagi bahwa banyak beberapa belum "
    "bisa bukan dalam dan dapat dari dengan di dia hanya harus hingga ia ini itu jika juga kami kamu karena ke "
    "kepada ketika kita lagi lebih maka masih melalui mereka namun oleh pada para saat saja sampai sangat sebagai "
    "sebuah secara sehingga sejak selama semua seperti serta sudah tanpa telah tentang terhadap tersebut tetapi "
    "tidak untuk yaitu yang",
    "eu": "al arte artean aurrera bai baina baino baita batean bat batek bere beste bezala da dago dira diren du "
    "dute edo egin eta ere ez gara gero gu guzti hala han hau hauek hemen hori horiek hura ni nola non nor noiz oso "
    "ondoren zen zer zeren ziren zuen zuten",
    "ru": "а без более больше будет будто бы был была были было быть в вам вас вдруг ведь во вот все всегда всего "
    "всех вы где да даже для до его ее ей ему если есть еще же за здесь и из или им их к как какая какой когда кто "
    "ли лучше между меня мне может можно мой мы на над надо наконец нас не него нее ней нельзя нет ни нибудь ним "
    "них но ну о об однако он она они от перед по под после потом потому почти при про раз с сам свою себе себя "
    "сейчас со так такой там тебя тем теперь то тогда того тоже только том тот тут ты у уж уже хоть чего чем через "
    "что чтобы эти этого этой этом этот эту я",
    "el": "ο η το οι τα του της των τον την τους τις ένα ένας μια μία και κι αλλά ή είτε ούτε μη μην δεν δε θα να "
    "για με σε στο στη στην στον στα στις στους από ως προς κατά μετά παρά χωρίς αν όταν όπως ότι πως που ποιος τι "
    "πού πώς γιατί είναι ήταν έχει έχουν είχε εγώ εσύ αυτός αυτή αυτό αυτοί αυτές αυτά μου σου μας σας",
    "ar": "في من على إلى عن مع هذا هذه ذلك تلك هؤلاء أن إن لا ما لم لن قد كان كانت يكون هو هي هم هن أنا نحن أنت "
    "التي الذي الذين اللذين و أو ثم بل لكن حتى إذا لو كما كل بعض غير بين بعد قبل عند عندما منذ ليس أي أين كيف لماذا "
    "متى هل به بها له لها لهم فيه فيها منه منها عليه عليها",
    "fa": "و در به از که این را با است برای آن یک خود تا بر هم نیز می ما او آنها شد شده بود اما یا هر اگر چه کرد "
    "کرده دارد های ها پس باید دو من تو شما ایشان نه چون همه هیچ چرا کجا کی بین پیش",
    "he": "של את על לא זה זאת זו הוא היא הם הן אני אתה את אנחנו אתם עם אל אם כי או גם אבל רק כל אך מה מי איך איפה "
    "למה מתי היה היתה היו יש אין לי לו לה לנו להם אשר כמו בין אחרי לפני עד אז כן בה בו",
    "hi": "का की के को में से है हैं था थी थे और या पर यह वह ये वे इस उस इन उन एक ने भी तो ही कि जो जब तब तक कर हो "
    "गया नहीं न अपने अपनी अपना कुछ क्या कौन कहां कब क्यों कैसे लिए साथ बाद मैं हम तुम आप हुआ हुई हुए",
}

FUNCTION_WORDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {language: frozenset(map(folded, words.split())) for language, words in _WORDS.items()}
)
"""By language (ISO 639-1), as words are compared."""
